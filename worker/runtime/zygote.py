"""A zygote: an interpreter with its packages imported, which forks the programs.

Starts as `python3 -I zygote.py CORES_ARE_PIPED MODULE...` in a spawner
(worker/sandboxd/spawner.c) that shows it /run/capibox/zygote.so. It imports,
uses each package once so that nothing lazy is left for the programs to do
again, and serves forks. What follows the fork runs in a sandbox, confined,
before its job is known: it makes unlike what a fork made alike, then waits for
the job.
"""
import atexit
import ctypes
import gc
import io
import itertools
import os
import sys
import threading
import weakref

HERE = os.path.dirname(os.path.abspath(__file__))
JOB = "/run/capibox"
DRIVER = os.path.join(HERE, "python_driver.py")
WRITABLE = ("/home/user/", "/tmp/", "/dev/shm/")
EXIT_UNFLUSHED = 120

# What scripts import most, each cheap and without a thread.
COMMON = (
    "_ast", "base64", "bisect", "collections", "contextlib", "copy", "csv",
    "dataclasses", "datetime", "decimal", "enum", "functools", "glob", "heapq",
    "inspect", "io", "itertools", "json", "linecache", "math", "operator",
    "pathlib", "pickle", "random", "re", "shutil", "statistics", "string",
    "struct", "tempfile", "textwrap", "threading", "time", "traceback",
    "types", "typing", "uuid", "warnings",
)


def import_all(names):
    """Imports what is there; a package that is missing is the job's to miss."""
    import importlib
    for name in names:
        try:
            importlib.import_module(name)
        except Exception as error:
            print("zygote: %s is not preloaded: %s: %s" %
                  (name, type(error).__name__, error), file=sys.stderr)


# Using each package once: what it sets up lazily is then set up for all.

def use_numpy():
    import numpy
    numpy.linalg.solve(numpy.eye(3), numpy.ones(3))
    numpy.linalg.svd(numpy.eye(3))
    repr(numpy.arange(3.0))


def use_pandas():
    import pandas
    frame = pandas.DataFrame({"a": [1, 2, 2], "b": [1.5, 2.5, 3.5],
                              "c": ["x", "y", "y"]})
    frame.groupby("a").sum(numeric_only=True).merge(frame, on="a")
    frame.describe()
    frame._repr_html_()
    repr(frame)


def use_pyplot():
    import io
    from matplotlib import pyplot
    figure, axes = pyplot.subplots()
    axes.plot([1, 2, 3], label="x")
    axes.set_title("$x$")
    axes.legend()
    figure.savefig(io.BytesIO(), format="png", bbox_inches="tight")
    pyplot.close("all")
    # Open font files. Each fork would drop them as its first act.
    from matplotlib import font_manager
    if hasattr(font_manager, "_get_font"):
        font_manager._get_font.cache_clear()


USES = {"numpy": use_numpy, "pandas": use_pandas,
        "matplotlib.pyplot": use_pyplot}


def warm_up():
    for name, use in USES.items():
        if name in sys.modules:
            try:
                use()
            except Exception as error:
                print("zygote: using %s failed: %s: %s" %
                      (name, type(error).__name__, error), file=sys.stderr)


def load_driver():
    """The driver as a module."""
    with open(DRIVER, "rb") as file:
        code = compile(file.read(), DRIVER, "exec", dont_inherit=True)
    driver = type(sys)("capibox_driver")
    driver.__file__ = DRIVER
    exec(code, driver.__dict__)
    driver.OWN_FILES.append(os.path.abspath(__file__))
    rich = driver.Rich.preloaded = driver.Rich.read(HERE)
    for part in (rich["CHART_FILE"], rich["NOTEBOOK_FILE"]):
        rich["load_part"](part)
    return driver


def make_unlike():
    """Every source of randomness that the zygote has set up already. (random
    does it by itself in every fork, OpenSSL as its process id has changed.) And
    what Python has noted of its process."""
    set_thread_id = getattr(threading.main_thread(), "_set_native_id", None)
    if set_thread_id is not None:
        set_thread_id()
    tempfile = sys.modules.get("tempfile")
    if tempfile is not None:
        tempfile._name_sequence = None
    uuid = sys.modules.get("uuid")
    if uuid is not None:
        uuid._last_timestamp = uuid._node = None
    make_kept_unlike()


KEPT = []  # generators that a package made while it was imported


def make_kept_unlike():
    for kept in KEPT:
        if hasattr(kept, "seed"):
            kept.seed()
        else:
            kept.bit_generator.state = type(kept.bit_generator)().state


def find_kept():
    """In the zygote, as walking all objects in each child would touch them."""
    import random
    types = [random.Random]
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        types += [numpy_random.Generator, numpy_random.RandomState]
    found = [kept for kept in gc.get_objects() if type(kept) in types]
    for module in list(sys.modules.values()):
        found += [value for value in list(getattr(module, "__dict__", {})
                                          .values()) if type(value) in types]
    KEPT.extend({id(kept): kept for kept in found
                 if kept is not random._inst}.values())


def fresh_streams(driver):
    """Those of the programs, which are pipes: a stream notes what its file can
    do. From here on the zygote itself has nobody to talk to."""
    reader, writer = os.pipe()
    os.dup2(reader, 0)
    for fd in (1, 2):
        os.dup2(writer, fd)
    os.close(reader)
    os.close(writer)
    sys.stdin = sys.__stdin__ = open(
        0, "r", encoding="utf-8", errors="surrogateescape", newline="\n",
        closefd=False)
    sys.stdin.mode = "r"
    sys.stdin.buffer.raw.name = "<stdin>"
    buffers = {}
    for fd, name in ((1, "stdout"), (2, "stderr")):
        buffers[name] = open(fd, "wb", closefd=False)
        buffers[name].raw.name = "<%s>" % name
    driver.set_up_streams(buffers)


def take_job(lib):
    """Waits for it; its arguments and environment become ours."""
    text = ctypes.c_char_p()
    counts = (ctypes.c_uint * 2)()
    size = lib.zygote_await(ctypes.byref(text), counts)
    become(ctypes.string_at(text, size), *counts)


def become(strings, argc, envc):
    words = strings.split(b"\0")
    for pair in words[argc:argc + envc]:
        name, _, value = pair.partition(b"=")
        if name:
            os.environb[name] = value
    if "TZ" in os.environ:
        import time
        time.tzset()
    argv = [os.fsdecode(word) for word in words[:argc]]
    sys.argv[:] = argv[argv.index(DRIVER):]
    if hasattr(sys, "orig_argv"):
        sys.orig_argv[:] = argv


def rehearse(driver):
    """Does once what each job does, so that the memory it writes to is the
    program's own before the job comes."""
    become(b"python\0" + os.fsencode(DRIVER) + b"\0A=1\0", 2, 1)
    os.environ.clear()
    source = driver.Source(b"print\n1\n")
    driver.run(source, driver.set_up_main(source, "__main__"), None)
    delete_objects([])
    flush_files()


def exit_code(code):
    """What `raise SystemExit(code)` exits with; says what it would say."""
    if code is None:
        return 0
    if isinstance(code, int):
        return code & 0xff if -2 ** 63 <= code < 2 ** 63 else 255
    try:
        print(code, file=sys.__stderr__ if sys.stderr is None else sys.stderr)
    except Exception:
        pass
    return 1


def leave(lib, code):
    """The end of a process as Python's own, less the time it takes to free what
    the zygote had: threads are waited for, exit handlers run, the program's
    objects deleted, its files flushed."""
    code = exit_code(code)
    try:
        threading._shutdown()
    except BaseException:
        pass
    atexit._run_exitfuncs()
    flushed = flush_streams(True)
    for name in ("stdin", "stdout", "stderr"):
        setattr(sys, name, getattr(sys, "__%s__" % name, None))
    delete_objects(own_names())
    flush_files()
    flushed = flush_streams(False) and flushed
    lib.zygote_exit(code if flushed else EXIT_UNFLUSHED)


def flush_streams(complain):
    """False if what was printed cannot get out."""
    done = True
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name, None)
        try:
            if stream is None or stream.closed:
                continue
        except Exception:
            pass  # detached: then so says the flush
        try:
            stream.flush()
        except BaseException as error:
            done = False
            if complain and name == "stdout" and sys.stderr is not None:
                print("Exception ignored in: %r\n%s: %s" %
                      (stream, type(error).__name__, error), file=sys.stderr)
    return done


def own_names():
    """Of the program's modules, which are no installed package's. They stand
    behind those of the zygote, of which even a look writes to memory."""
    added = max(0, len(sys.modules) - MODULES)
    names = list(itertools.islice(reversed(sys.modules), added))
    return ["__main__"] + [name for name in reversed(names)
                           if is_own(sys.modules[name])]


def is_own(module):
    if not issubclass(type(module), type(sys)):
        return False
    path = module.__dict__.get("__file__")
    return isinstance(path, str) and path.startswith(WRITABLE)


MODULES = 0  # of the zygote


def delete_objects(names):
    """The program's own modules. Most go all at once, so that __del__ finds its
    names; what lives on loses its names one by one."""
    kept = []
    for name in names:
        module = sys.modules.get(name)
        if issubclass(type(module), type(sys)):
            kept.append(weakref.ref(module))
            module = sys.modules[name] = None
    gc.collect()
    for module in (ref() for ref in reversed(kept)):
        scope = {} if module is None else module.__dict__
        for name in [name for name in scope if name != "__builtins__"]:
            scope[name] = None
    gc.collect()


def flush_files():
    """Whatever holds unwritten bytes."""
    for kept in gc.get_objects():
        if issubclass(type(kept), io.IOBase):
            try:
                kept.flush()
            except Exception:
                pass  # closed, or not to be written any more


def program(lib, driver):
    """In the sandbox."""
    try:
        make_unlike()
        rehearse(driver)
    except Exception as error:
        lib.zygote_fail(("%s: %s" % (type(error).__name__, error)).encode())
    take_job(lib)
    leave(lib, driver.run_job())


def main():
    global MODULES
    lib = ctypes.PyDLL(os.path.join(JOB, "zygote.so"))
    lib.zygote_await.restype = ctypes.c_long
    piped = sys.argv[1] == "1"
    import_all(COMMON)
    import_all(sys.argv[2:])
    warm_up()
    driver = load_driver()
    find_kept()
    sys.argv[:] = [DRIVER]
    os.environ.clear()
    fresh_streams(driver)
    MODULES = len(sys.modules)
    gc.collect()
    gc.freeze()
    if lib.zygote_open(piped) != 0 or lib.zygote_serve() != 1:
        sys.exit(1)
    program(lib, driver)


main()
