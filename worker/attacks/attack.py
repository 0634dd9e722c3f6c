"""What the probes share: raw system calls, and one line for each try.

A line is "HELD what" or "BROKE what: why"; see worker/attack_list.h.
"""
import ctypes
import errno
import os
import sys

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
MARK = "capibox-attack"
REFUSED = (errno.EPERM, errno.EACCES)
ABSENT = (errno.ENOENT,)
SEALED = (errno.EROFS, errno.EACCES, errno.EPERM)


def held(what):
    print("HELD", what, flush=True)


def broke(what, why):
    print("BROKE %s: %s" % (what, why), flush=True)


def check(what, good, why=""):
    held(what) if good else broke(what, why)


def not_applicable(why):
    print("N/A", why, flush=True)
    sys.exit(0)


def names(errnos):
    return "/".join(errno.errorcode.get(e, str(e)) for e in errnos)


def as_argument(value):
    if isinstance(value, int):
        return ctypes.c_ulong(value % 2**64)
    return value


def syscall(number, *args):
    """The answer and the errno (0 if it did not fail)."""
    if os.uname().machine != "x86_64":
        not_applicable("the numbers of system calls are those of x86-64")
    ctypes.set_errno(0)
    answer = libc.syscall(ctypes.c_long(number), *map(as_argument, args))
    return answer, ctypes.get_errno() if answer == -1 else 0


def refused(what, errnos, number, *args):
    """This call must fail with one of these."""
    answer, error = syscall(number, *args)
    check(what, answer == -1 and error in errnos,
          "answered %d, errno %s instead of %s" %
          (answer, names([error]), names(errnos)))


def fails(what, errnos, call, *args, **options):
    """The same for a function of Python."""
    try:
        got = call(*args, **options)
    except OSError as e:
        check(what, e.errno in errnos, "%s instead of %s" %
              (names([e.errno]), names(errnos)))
    else:
        broke(what, "it worked: %.60r" % (got,))


def until_refused(what, errnos, most, call):
    """Again and again must fail, and before `most` times."""
    kept = []
    try:
        for i in range(most):
            kept.append(call())
    except OSError as e:
        check(what, e.errno in errnos, "%s instead of %s" %
              (names([e.errno]), names(errnos)))
    else:
        broke(what, "%d times without an end" % most)
    return kept


def in_child(function):
    """Its wait status."""
    pid = os.fork()
    if pid == 0:
        try:
            function()
            os._exit(0)
        except BaseException as e:
            print(repr(e), flush=True)
            os._exit(99)
    return os.waitpid(pid, 0)[1]
