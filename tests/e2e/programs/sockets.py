import array
import os
import selectors
import socket
import socketserver
import threading

left, right = socket.socketpair()
left.sendall(b"ping")
print(right.recv(10))
reader, writer = os.pipe()
os.write(writer, b"through a passed fd")
left.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS,
                       array.array("i", [reader]))])
_, fds, _, _ = socket.recv_fds(right, 1, 1)
print(os.read(fds[0], 100))


class Upper(socketserver.StreamRequestHandler):
    def handle(self):
        self.wfile.write(self.rfile.readline().upper())


server = socketserver.ThreadingUnixStreamServer("/tmp/upper", Upper)
threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
with socket.socket(socket.AF_UNIX) as client:
    client.connect("/tmp/upper")
    client.sendall(b"stream\n")
    print(client.makefile().readline().strip())
server.shutdown()
abstract = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
abstract.bind("\0name")
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
    client.sendto(b"datagram", "\0name")
print(abstract.recv(100))
packets = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
packets[0].send(b"one")
packets[0].send(b"two")
print(packets[1].recv(100), packets[1].recv(100))
with selectors.DefaultSelector() as selector:
    selector.register(right, selectors.EVENT_READ, "right")
    print(selector.select(0))
    left.send(b"!")
    print([key.data for key, _ in selector.select(30)])
left.settimeout(0.01)
try:
    left.recv(1)
except TimeoutError:
    print("timed out")
try:
    socket.create_connection(("example.org", 80), timeout=5)
except OSError as error:
    print(type(error).__name__)
