"""A zygote: an interpreter with its packages imported, which forks the programs.

Starts as `python3 -I zygote.py CORES_ARE_PIPED MODULE...` in a spawner
(worker/sandboxd/spawner.c) that shows it /run/capibox/zygote.so. It imports, uses each
package once so that nothing lazy is left for the programs to do again, and
serves forks. What follows the fork runs in a sandbox, confined, before its job
is known: it makes unlike what a fork made alike, then waits for the job.
"""
import ctypes
import gc
import itertools
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
JOB = "/run/capibox"
HOME = "/home/user/"
DRIVER = os.path.join(HERE, "python_driver.py")

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
    does it by itself in every fork; OpenSSL as its process id has changed.)"""
    tempfile = sys.modules.get("tempfile")
    if tempfile is not None:
        tempfile._name_sequence = None
    uuid = sys.modules.get("uuid")
    if uuid is not None:
        uuid._last_timestamp = uuid._node = None
    if "numpy.random" in sys.modules:
        unlike_numpy(sys.modules["numpy.random"])


def unlike_numpy(numpy_random):
    numpy_random.seed()
    # Generators that a package made while it was imported.
    for kept in numpy_generators(numpy_random):
        kept.bit_generator.state = type(kept.bit_generator)().state


def numpy_generators(numpy_random):
    return [kept for kept in GENERATORS
            if isinstance(kept, (numpy_random.Generator,
                                 numpy_random.RandomState))
            and kept is not numpy_random.mtrand._rand]


GENERATORS = []


def find_generators():
    """In the zygote, as walking all objects in each child would touch them."""
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        GENERATORS.extend(
            kept for kept in gc.get_objects()
            if type(kept) in (numpy_random.Generator,
                              numpy_random.RandomState))
        GENERATORS.extend(
            value for module in list(sys.modules.values())
            for value in list(getattr(module, "__dict__", {}).values())
            if type(value) in (numpy_random.Generator,
                               numpy_random.RandomState))


def fresh_streams(driver):
    """The zygote's were made for other files."""
    import io
    sys.stdin = sys.__stdin__ = open(
        0, "r", encoding="utf-8", errors="surrogateescape", closefd=False)
    sys.stdin.mode = "r"
    driver.set_up_streams({
        "stdout": open(1, "wb", closefd=False),
        "stderr": io.BufferedWriter(io.FileIO(2, "wb", closefd=False)),
    })


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
    main = driver.set_up_main(source, "__main__")
    driver.run(source, main, None)
    delete_objects(main)


def exit_code(code):
    """What `raise SystemExit(code)` would exit with."""
    if code is None:
        return 0
    if isinstance(code, int):
        return code & 0xff
    print(code, file=sys.stderr)
    return 1


def leave(code):
    """The end of a process as Python's own, less the time it takes to free what
    the zygote had: threads are waited for, exit handlers run, the program's
    objects deleted, its files flushed."""
    import atexit
    end_threads()
    code = exit_code(code)
    atexit._run_exitfuncs()
    delete_objects(sys.modules.get("__main__"))
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:
            pass
    os._exit(code)


def end_threads():
    threading = sys.modules.get("threading")
    if threading is not None:
        threading._shutdown()


def delete_objects(main):
    """The program's own modules, then whatever holds unwritten bytes."""
    import io
    clear_module(main)
    # They were added behind those of the zygote, of which even a look writes
    # to memory.
    added = max(0, len(sys.modules) - MODULES)
    for name in list(itertools.islice(reversed(sys.modules), added)):
        module = sys.modules[name]
        path = getattr(module, "__file__", None)
        if isinstance(path, str) and path.startswith(HOME):
            clear_module(module)
    gc.collect()
    for kept in gc.get_objects():
        if isinstance(kept, io.IOBase):
            try:
                kept.flush()
            except Exception:
                pass  # closed, or not to be written any more


def clear_module(module):
    scope = getattr(module, "__dict__", {})
    for name in [name for name in scope if name != "__builtins__"]:
        scope[name] = None


MODULES = 0  # of the zygote


def program(lib, driver):
    """In the sandbox."""
    try:
        make_unlike()
        fresh_streams(driver)
        rehearse(driver)
    except Exception as error:
        lib.zygote_fail(("%s: %s" % (type(error).__name__, error)).encode())
    take_job(lib)
    leave(driver.run_job())


def main():
    global MODULES
    lib = ctypes.PyDLL(os.path.join(JOB, "zygote.so"))
    lib.zygote_await.restype = ctypes.c_long
    piped = sys.argv[1] == "1"
    import_all(COMMON)
    import_all(sys.argv[2:])
    warm_up()
    driver = load_driver()
    find_generators()
    MODULES = len(sys.modules)
    sys.argv[:] = [DRIVER]
    gc.collect()
    gc.freeze()
    os.environ.clear()
    if lib.zygote_open(piped) != 0 or lib.zygote_serve() != 1:
        sys.exit(1)
    program(lib, driver)


main()
