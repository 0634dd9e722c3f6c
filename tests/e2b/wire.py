"""Messages between the double, its forker and the sandboxes' first processes:
JSON with a length in front, over unix stream sockets; descriptors go along."""
import json
import socket
import struct

HEAD = struct.Struct("<I")
FDS_MAX = 8


def send(sock: socket.socket, message: dict, fds: tuple[int, ...] = ()) -> None:
    body = json.dumps(message).encode()
    head = HEAD.pack(len(body))
    # The descriptors ride on the head: a reader that asks for just the head
    # gets exactly those of this message.
    if fds:
        socket.send_fds(sock, [head], list(fds))
        sock.sendall(body)
    else:
        sock.sendall(head + body)


def receive(sock: socket.socket) -> tuple[dict, list[int]] | None:
    """The next message, or None once the other end is gone."""
    head, fds, _flags, _addr = socket.recv_fds(sock, HEAD.size, FDS_MAX)
    while head and len(head) < HEAD.size:
        head += sock.recv(HEAD.size - len(head))
    if not head:
        return None
    left = HEAD.unpack(head)[0]
    parts = []
    while left:
        part = sock.recv(left)
        if not part:
            return None
        parts.append(part)
        left -= len(part)
    return json.loads(b"".join(parts)), fds
