"""Runs /run/capibox/main.py as a Jupyter cell would, in a process of its own.

Starts as `python3 -I python_driver.py [args...]` with python_rich.py in the same
folder and the result pipe's number in CAPIBOX_RESULT_FD.
What a job that only prints needs is in this file, which is compiled at every
start; everything else waits in python_rich.py until it is asked for.

Nothing in here protects anything: user code shares the process. Tampering may
lose the job's own results, and the reader of the pipe believes no byte of it.
"""
import builtins
import io
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
JOB = "/run/capibox"  # what the worker put there for this job
CODE_NAME = "main.py"
if os.path.exists(os.path.join(HERE, CODE_NAME)):
    JOB = HERE  # without a sandbox
OWN_FILES = [__file__]  # not shown in tracebacks
CO_COROUTINE = 0x80


class Source:
    """The user's code, and the loader of its module: traceback, inspect and
    warnings ask it for the lines, as no file main.py need exist."""

    def __init__(self, raw):
        self.raw = raw[3:] if raw.startswith(b"\xef\xbb\xbf") else raw
        try:
            # As text, so that a coding cookie changes nothing: what came in
            # is UTF-8, whatever editor the first line was written for.
            self.code = self.raw.decode("utf-8")
        except UnicodeDecodeError:
            self.code = self.raw

    @classmethod
    def read(cls):
        with open(os.path.join(JOB, CODE_NAME), "rb") as file:
            return cls(file.read())

    def text(self):
        return self.raw.decode("utf-8", "replace")

    def lines(self):
        """As the compiler counts them."""
        text = self.text().replace("\r\n", "\n").replace("\r", "\n")
        return [line + "\n" for line in text.split("\n")]

    def get_source(self, _name):
        return "".join(self.lines())


class Rich:
    """python_rich.py, read when the first attribute of it is used."""

    preloaded = None  # its names, where a zygote has read it already

    def __init__(self, source, result_fd):
        self.source, self.result_fd, self.pid = source, result_fd, os.getpid()
        self.result_file = self.which_file()
        self.loaded = None

    def which_file(self):
        """What the result pipe's number stands for now. Code that becomes a
        daemon closes all it does not know, and may open something else."""
        try:
            stat = os.fstat(self.result_fd)
        except (OSError, OverflowError):
            return None
        return stat.st_dev, stat.st_ino

    def usable(self):
        return (self.result_file is not None and os.getpid() == self.pid and
                self.which_file() == self.result_file)

    def forked(self):
        """A child neither reports nor holds the pipe open."""
        if self.result_file is not None and \
                self.which_file() == self.result_file:
            os.close(self.result_fd)
        self.result_file = None

    def load(self):
        if self.loaded is None:
            scope = self.preloaded or self.read(HERE)
            self.loaded = scope["Reporter"](
                self, JOB, [scope["__file__"], *OWN_FILES])
        return self.loaded

    @staticmethod
    def read(folder):
        path = os.path.join(folder, "python_rich.py")
        with open(path, "rb") as file:
            code = compile(file.read(), path, "exec", dont_inherit=True)
        scope = {"__name__": "capibox_rich", "__file__": path}
        exec(code, scope)
        return scope

    def display(self, *objects, **options):
        """Hands objects over as rich results, in the order given."""
        self.load().display(objects, options)

    def linecache_loaded(self, module):
        # Without a time stamp it is never checked against a file.
        module.cache[CODE_NAME] = (len(self.source.raw), None,
                                   self.source.lines(), CODE_NAME)


class ImportHooks:
    """Touches up a few modules right after their import, so that none has to
    be imported for it."""

    def __init__(self, rich):
        self.rich = rich
        self.after = {
            "IPython": lambda m: None,
            "linecache": rich.linecache_loaded,
            "matplotlib.pyplot": lambda m: rich.load().pyplot_loaded(m),
            "PIL.ImageShow": lambda m: rich.load().pil_loaded(m),
            "plotly.io": lambda m: rich.load().plotly_loaded(m),
            "multiprocessing.spawn": lambda m: rich.load().spawn_loaded(m),
            "IPython.display": lambda m: rich.load().ipython_loaded(m),
        }

    def catch_up(self):
        """With what a zygote has imported already."""
        for name, after in self.after.items():
            if name in sys.modules:
                after(sys.modules[name])

    def find_spec(self, name, path=None, target=None):
        after = self.after.get(name)
        if after is None:
            return None
        for finder in sys.meta_path:
            if finder is not self and hasattr(finder, "find_spec"):
                spec = finder.find_spec(name, path, target)
                if spec is not None:
                    return self.hooked(spec, after)
        if name.startswith("IPython"):
            return self.rich.load().stand_in(name)
        return None

    @staticmethod
    def hooked(spec, after):
        loader = spec.loader

        def exec_module(module):
            del loader.exec_module
            loader.exec_module(module)
            after(module)

        # On the instance, so that the loader keeps its type and the rest of
        # its methods.
        if not isinstance(loader, type) and hasattr(loader, "__dict__"):
            loader.exec_module = exec_module
        return spec


def take_result_fd():
    text = os.environ.pop("CAPIBOX_RESULT_FD", "")
    if not text.isdigit():
        return -1
    try:
        os.set_inheritable(int(text), False)
    except OSError:
        return -1
    return int(text)


class PromptText(io.TextIOWrapper):
    """Standard output that is out as soon as it is written: a limit may kill the
    code at any moment, and what it printed before is kept."""

    def write(self, text):
        size = super().write(text)
        self.flush()
        return size


def set_up_streams(buffers=None):
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            continue
        buffer = buffers[name] if buffers else stream.detach()
        prompt = PromptText(buffer, encoding="utf-8",
                            errors="backslashreplace", newline="\n",
                            write_through=True)
        prompt.mode = "w"
        setattr(sys, name, prompt)
        setattr(sys, "__%s__" % name, prompt)


def set_up_main(source, name):
    """The module user code runs in. Its file seems to lie in the work folder:
    that is where the job's files are."""
    main = type(sys)(name)
    main.__file__ = os.path.join(os.getcwd(), CODE_NAME)
    main.__builtins__ = builtins
    main.__loader__ = source
    return main


def ends_quiet(source, node):
    """Is there a semicolon behind the last expression, as in a notebook?"""
    lines = [line.encode("utf-8")
             for line in source.lines()[node.end_lineno - 1:]]
    lines[:1] = [line[node.end_col_offset:] for line in lines[:1]]
    return any(line.split(b"#")[0].strip(b") \t\r\f").startswith(b";")
               for line in lines)


def compile_parts(source):
    """[code of all but the last expression, code of that or None]"""
    import _ast
    code = source.code
    flags = _ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    try:
        tree = compile(code, CODE_NAME, "exec", flags | _ast.PyCF_ONLY_AST,
                       dont_inherit=True)
    except (RecursionError, MemoryError):
        tree = None
    if tree is None:
        # A tree of objects needs more depth than the code itself.
        return [compile(code, CODE_NAME, "exec", flags, dont_inherit=True),
                None]
    last = None
    if tree.body and isinstance(tree.body[-1], _ast.Expr):
        last = tree.body.pop()
        if ends_quiet(source, last.value):
            tree.body.append(last)
            last = None
    first = compile(tree, CODE_NAME, "exec", flags, dont_inherit=True)
    if last is None:
        return [first, None]
    return [first, compile(_ast.Expression(last.value), CODE_NAME, "eval",
                           flags, dont_inherit=True)]


def run(source, main, rich):
    """Runs the code; the value of its last expression, or None."""
    parts = compile_parts(source)
    loop = None
    value = None
    try:
        for part in parts:
            if part is None:
                value = None
                continue
            value = eval(part, main.__dict__)
            if part.co_flags & CO_COROUTINE:
                loop = loop or rich.load().new_loop()
                value = loop.run_until_complete(value)
    finally:
        if loop is not None:
            rich.load().end_loop(loop)
    return value


def main_process():
    set_up_streams()
    raise SystemExit(run_job())


def run_job():
    """Everything from reading main.py to the last result; the exit code."""
    source = Source.read()
    rich = Rich(source, take_result_fd())
    os.register_at_fork(after_in_child=rich.forked)
    os.environ.setdefault("MPLBACKEND", "Agg")
    builtins.display = rich.display
    hooks = ImportHooks(rich)
    sys.meta_path.insert(0, hooks)
    hooks.catch_up()
    sys.argv[0] = CODE_NAME
    sys.path.insert(0, os.getcwd())
    main = sys.modules["__main__"] = set_up_main(source, "__main__")
    modules = sys.modules
    try:
        value = run(source, main, rich)
        if value is not None:
            rich.load().result(value)
    except BaseException as error:
        code = rich.load().failure(error)
    else:
        code = 0
    if rich.loaded is not None or "matplotlib.pyplot" in modules:
        rich.load().finish()
    return code


def spawned_process(scope):
    """A child of multiprocessing's spawn: it wants the names main.py defines,
    and reports nothing."""
    source = Source.read()
    builtins.display = lambda *objects, **options: None
    main = set_up_main(source, "__mp_main__")
    sys.modules["__mp_main__"] = main
    rich = Rich(source, -1)
    run(source, main, rich)
    scope.update(main.__dict__)


if __name__ == "__main__":
    main_process()
elif __name__ == "__mp_main__":
    spawned_process(globals())
