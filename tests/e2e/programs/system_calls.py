import ctypes
import dbm
import errno
import fcntl
import glob
import locale
import logging.handlers
import mmap
import os
import pathlib
import pickle
import platform
import pwd
import resource
import shelve
import signal
import stat
import time

here = pathlib.Path.cwd()
print(here, pathlib.Path.home(), pwd.getpwuid(os.getuid()).pw_name)
(here / "a" / "b").mkdir(parents=True)
(here / "a" / "b" / "f.txt").write_text("text")
print(sorted(str(p.relative_to(here)) for p in here.rglob("*")))
print(glob.glob("a/*/*.txt"), (here / "a/b/f.txt").stat().st_size)
os.chmod("a/b/f.txt", 0o600)
print(stat.filemode(os.stat("a/b/f.txt").st_mode))
os.utime("a/b/f.txt", (1, 2))
print(os.stat("a/b/f.txt").st_mtime)
with open("map", "w+b") as file:
    file.truncate(8192)
    with mmap.mmap(file.fileno(), 0) as shared:
        shared[4096:4100] = b"here"
    file.seek(4096)
    print(file.read(4))
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    fcntl.lockf(file, fcntl.LOCK_EX, 10, 0)
signal.signal(signal.SIGUSR1, lambda number, frame: print("got", number))
os.kill(os.getpid(), signal.SIGUSR1)
signal.signal(signal.SIGALRM, lambda number, frame: print("alarm"))
signal.setitimer(signal.ITIMER_REAL, 0.01)
signal.pause()
libc = ctypes.CDLL(None, use_errno=True)
print(libc.abs(-3))
callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)(lambda n: n + 1)
print(callback(41))
with shelve.open("shelf") as shelf:
    shelf["k"] = {1, 2}
with shelve.open("shelf") as shelf:
    print(shelf["k"])
with dbm.open("dbm", "c") as db:
    db[b"k"] = b"v"
print(pickle.loads(pickle.dumps([1, "x"])))
log = logging.getLogger("job")
log.addHandler(logging.handlers.RotatingFileHandler("log", maxBytes=100,
                                                    backupCount=2))
for i in range(20):
    log.warning("line %d", i)
print(sorted(glob.glob("log*")))
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0] >= 256)
print(os.cpu_count() > 0, platform.system())
child = os.fork()
if child == 0:
    os._exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
locale.setlocale(locale.LC_ALL, "C.UTF-8")
print(time.strftime("%Y-%m-%d", time.gmtime(0)))
with open("/dev/urandom", "rb") as file:
    print(len(file.read(16)), len(os.urandom(8)))
try:
    os.mkdir("/usr/x")
except OSError as error:
    print(errno.errorcode[error.errno])
os.mkfifo("fifo")
end = os.open("fifo", os.O_RDWR)
os.write(end, b"fifo")
print(os.read(end, 9))
with open("sparse", "wb") as file:
    os.posix_fallocate(file.fileno(), 0, 1 << 20)
    os.sendfile(file.fileno(), os.open("map", os.O_RDONLY), 0, 4096)
print(os.path.getsize("sparse"))
memory = os.memfd_create("name")
os.write(memory, b"m")
print(os.fstat(memory).st_size)
os.nice(1)
print(os.sched_getaffinity(0) != set())
