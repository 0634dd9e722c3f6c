"""The part of the Python driver that most jobs never need.

Turns objects into the MIME forms of contract section 4, writes the frames of
worker/local/wire.h, formats errors, and patches the libraries that show things.
Loaded by python_driver.py (Rich.load); heavy modules are imported where they are used.
"""
import os
import sys
from _thread import RLock

# As in common/limits.h; tests/integration/test_drivers.c compares.
RESULT_ITEMS_MAX = 256
RESULT_BYTES_MAX = 16 << 20
TEXT_BYTES_MAX = 1 << 20
ERROR_TEXT_MAX = 4096
TRACEBACK_BYTES_MAX = 64 << 10
# The reader adds each item's absent keys, which count there.
ITEM_OVERHEAD = 256
WARNINGS_MAX = 8
JSON_DEPTH = 50
PIXELS_MAX = 64 << 20
DATA_CELLS_MAX = 1 << 20

CODE_NAME = "main.py"
FIELDS = ("text", "html", "markdown", "svg", "png", "jpeg", "pdf", "latex",
          "json", "javascript", "data", "chart")
FIELD_OF_MIME = {
    "text/plain": "text", "text/html": "html", "text/markdown": "markdown",
    "image/svg+xml": "svg", "image/png": "png", "image/jpeg": "jpeg",
    "application/pdf": "pdf", "text/latex": "latex",
    "application/json": "json", "application/javascript": "javascript",
    "e2b/data": "data", "e2b/chart": "chart",
}
METHODS = (
    ("_repr_html_", "html"), ("_repr_markdown_", "markdown"),
    ("_repr_svg_", "svg"), ("_repr_png_", "png"), ("_repr_jpeg_", "jpeg"),
    ("_repr_pdf_", "pdf"), ("_repr_latex_", "latex"), ("_repr_json_", "json"),
    ("_repr_javascript_", "javascript"),
)
BINARY = ("png", "jpeg", "pdf")
STRUCTURED = ("json", "data", "chart")


# The parts of this file that only some jobs with results need.

HERE = os.path.dirname(__file__)
CHART_FILE = os.path.join(HERE, "python_chart.py")
NOTEBOOK_FILE = os.path.join(HERE, "python_notebook.py")
loaded_parts = {}


def load_part(path):
    """The names of the file, read when first asked for."""
    if path not in loaded_parts:
        with open(path, "rb") as file:
            code = compile(file.read(), path, "exec", dont_inherit=True)
        name = os.path.basename(path).partition(".")[0]
        scope = {"__name__": name.replace("python", "capibox"),
                 "__file__": path}
        exec(code, scope)
        loaded_parts[path] = scope
    return loaded_parts[path]


# JSON. The json module would write NaN and lone surrogates, fail on numpy's
# numbers and on keys that are no strings, and might be the user's own.

def quote(text):
    # Not every reader of JSON can keep a NUL.
    text = text.replace("\0", "\\x00")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    try:
        from _json import encode_basestring_ascii
    except ImportError:
        from json.encoder import py_encode_basestring_ascii as \
            encode_basestring_ascii
    return encode_basestring_ascii(str(text))


def encode_number(value):
    if value != value or value in (float("inf"), float("-inf")):
        return "null"
    return float.__repr__(value)


def encode_other(value, depth):
    """Numbers of numpy, dates, and whatever else a frame can hold."""
    if hasattr(value, "isoformat"):
        text = value.isoformat()
        return "null" if text == "NaT" else quote(text)
    if hasattr(value, "tolist"):
        plain = value.tolist()
        if type(plain) is not type(value):
            return encode(plain, depth)
    if isinstance(value, (bytes, bytearray)):
        return quote(bytes(value).decode("utf-8", "backslashreplace"))
    if isinstance(value, (set, frozenset)):
        return encode(list(value), depth)
    if type(value).__name__ in ("NAType", "NaTType"):
        return "null"
    return quote(str(value))


def encode(value, depth=0):
    """JSON text; ValueError if nested too deep."""
    if depth > JSON_DEPTH:
        raise ValueError("nested more than %d levels deep" % JSON_DEPTH)
    if isinstance(value, str):
        return quote(value)
    if value is None:
        return "null"
    if value is True or value is False:
        return "true" if value else "false"
    if isinstance(value, int):
        return int.__repr__(value)
    if isinstance(value, float):
        return encode_number(value)
    if isinstance(value, dict):
        return "{%s}" % ",".join(
            quote(key if isinstance(key, str) else str(key)) + ":" +
            encode(item, depth + 1) for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return "[%s]" % ",".join([encode(item, depth + 1) for item in value])
    return encode_other(value, depth)


def base64_text(value):
    """Base64 of bytes; text is base64 already, perhaps in lines."""
    import binascii
    if isinstance(value, str):
        value = binascii.a2b_base64(value)
    return binascii.b2a_base64(value, newline=False).decode("ascii")


def class_name(value):
    return type(value).__name__


def clip(text, limit):
    """At most limit bytes of UTF-8: the beginning and, after a mark, the
    end."""
    raw = text.encode("utf-8", "backslashreplace")
    if len(raw) > limit:
        half = (limit - 16) // 2
        raw = raw[:half] + b"\n[...]\n" + raw[-half:]
    return raw.decode("utf-8", "ignore")


class Pipe:
    """Frames on the result pipe: one at a time, whole, from the process that
    was started and from no child of it."""

    def __init__(self, rich):
        self.rich = rich
        self.lock = RLock()
        os.register_at_fork(after_in_child=self.forked)

    def forked(self):
        self.lock = RLock()  # may have been held

    def usable(self):
        return self.rich.usable()

    def send(self, kind, payload):
        with self.lock:
            if self.usable():
                self.write(kind + len(payload).to_bytes(4, "little") + payload)

    def write(self, frame):
        """All of it, whatever a signal handler raises in between: half a
        frame would spoil those to come."""
        raised = None
        view = memoryview(frame)
        while view:
            try:
                view = view[os.write(self.rich.result_fd, view):]
            except BlockingIOError:
                import select
                select.select([], [self.rich.result_fd], [])
            except OSError:
                self.rich.result_file = None
                return
            except BaseException as error:
                raised = error
        if raised is not None:
            raise raised


class Forms:
    """The MIME forms of one object."""

    def __init__(self, warn):
        self.warn = warn
        self.fields = {}
        self.extra = {}

    def add(self, field, value):
        if value is None:
            return
        if field in BINARY:
            value = base64_text(value)
        elif field in STRUCTURED:
            if isinstance(value, str):
                import json
                value = json.loads(value)
            if not isinstance(value, (dict, list, tuple)):
                return
        elif not isinstance(value, str):
            value = str(value)
        self.fields[field] = value

    def add_mime(self, mime, value):
        field = FIELD_OF_MIME.get(mime)
        if field is not None:
            self.add(field, value)
        elif isinstance(value, (bytes, bytearray)):
            self.extra[mime] = base64_text(value)
        elif value is not None:
            self.extra[mime] = value

    def add_bundle(self, bundle):
        if isinstance(bundle, tuple):
            bundle = bundle[0]
        for mime, value in (bundle or {}).items():
            self.guarded(mime, self.add_mime, mime, value)

    def guarded(self, what, call, *args):
        """A form that cannot be made is a warning; the others still count."""
        try:
            return call(*args)
        except NotImplementedError:
            return None
        except Exception as error:
            self.warn("display: %s failed: %s: %s" %
                      (what, class_name(error), safe_text(error)))
            return None

    def add_object(self, value):
        text = self.guarded("repr()", repr, value)
        if not isinstance(text, str):
            text = "<%s object>" % class_name(value)
        if len(text) > TEXT_BYTES_MAX:
            self.warn("display: `text` of %d characters was shortened" %
                      len(text))
            text = clip(text, TEXT_BYTES_MAX)
        self.fields["text"] = text
        if isinstance(value, (str, int, float, type)):
            return
        if is_a(value, "plotly.basedatatypes", "BaseFigure"):
            # Its own forms depend on a renderer it looks for in vain here.
            self.guarded("plotly", add_plotly, self, value)
            return
        if not fakes_attributes(value):
            self.add_methods(value)
        if is_a(value, "pandas", "DataFrame"):
            self.guarded("DataFrame", add_frame, self, value)
        if is_a(value, "altair", "TopLevelMixin"):
            self.guarded("altair", add_altair, self, value)
        if is_a(value, "PIL.Image", "Image"):
            self.guarded("JPEG", add_photo, self, value)
        if is_a(value, "matplotlib.figure", "Figure"):
            add_figure(self, value)

    def add_methods(self, value):
        bundle = getattr(value, "_repr_mimebundle_", None)
        if callable(bundle):
            self.add_bundle(self.guarded("_repr_mimebundle_", call_bundle,
                                         bundle))
        for name, field in METHODS:
            method = getattr(value, name, None)
            if field in self.fields or not callable(method):
                continue
            if name == "_repr_jpeg_" and "png" in self.fields:
                continue
            form = self.guarded(name, method)
            if isinstance(form, tuple) and len(form) == 2:
                form = form[0]
            self.guarded(name, self.add, field, form)


def call_bundle(method):
    return method(include=None, exclude=None)


def fakes_attributes(value):
    """Mock objects and proxies answer to any name, also to this one."""
    try:
        return getattr(value, "_ipython_canary_method_should_not_exist_",
                       None) is not None
    except Exception:
        return True


def safe_text(value):
    try:
        return clip(str(value), ERROR_TEXT_MAX)
    except BaseException:
        return "<%s: its text failed>" % class_name(value)


def add_frame(forms, frame):
    if frame.size > DATA_CELLS_MAX:
        forms.warn("display: a DataFrame of %d cells comes without `data` "
                   "(at most %d)" % (frame.size, DATA_CELLS_MAX))
        return
    if not frame.columns.is_unique:
        forms.warn("display: columns of a DataFrame have the same name: `data`"
                   " has the last of them")
    import warnings
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        forms.add("data", frame.to_dict(orient="list"))


def figure_png(figure):
    import io
    width, height = figure.get_size_inches() * figure.dpi
    if width * height > PIXELS_MAX:
        raise ValueError("a figure of %d x %d pixels is too large to show "
                         "(at most %d pixels)" % (width, height, PIXELS_MAX))
    out = io.BytesIO()
    # As a notebook shows it.
    figure.savefig(out, format="png", dpi=figure.dpi, bbox_inches="tight",
                   facecolor=figure.get_facecolor(),
                   edgecolor=figure.get_edgecolor())
    return out.getvalue()


def add_figure(forms, figure):
    forms.guarded("Figure", add_figure_png, forms, figure)
    forms.guarded("chart", add_chart, forms, figure)


def add_figure_png(forms, figure):
    forms.add("png", figure_png(figure))


def add_chart(forms, figure):
    chart = load_part(CHART_FILE)
    try:
        forms.add("chart", chart["figure_chart"](figure))
    except chart["TooMany"] as error:
        forms.warn("display: a Figure comes without `chart`: %s" % error)


def add_plotly(forms, figure):
    import json
    import plotly.io
    spec = json.loads(figure.to_json())
    # As plotly's own renderers for notebooks add it.
    spec["config"] = {"plotlyServerURL": "https://plot.ly"}
    forms.extra["application/vnd.plotly.v1+json"] = spec
    forms.fields["html"] = plotly.io.to_html(
        figure, include_plotlyjs="cdn", full_html=False)
    forms.fields["text"] = "Figure(%d traces)" % len(figure.data)


def add_altair(forms, chart):
    """Its own forms are those of the renderer in use: HTML, unless the code
    chose another."""
    version = sys.modules["altair"].SCHEMA_VERSION.partition(".")[0]
    mime = "application/vnd.vegalite.%s+json" % version
    if mime not in forms.extra:
        forms.extra[mime] = chart.to_dict()


def add_photo(forms, image):
    """A JPEG as it was, too: as PNG it may be too large to come through."""
    if image.format == "JPEG":
        import io
        out = io.BytesIO()
        image.save(out, "JPEG", quality="keep")
        forms.add("jpeg", out.getvalue())


def is_a(value, module, name):
    """isinstance() without importing what the job did not import."""
    kind = getattr(sys.modules.get(module), name, None)
    return isinstance(kind, type) and isinstance(value, kind)


class Reporter:
    def __init__(self, rich, here, own_files):
        self.rich, self.source = rich, rich.source
        self.here = here
        self.own_files = [*own_files, CHART_FILE, NOTEBOOK_FILE]
        self.pipe = Pipe(rich)
        self.items, self.left_out, self.warnings = 0, 0, 0
        self.bytes_left = RESULT_BYTES_MAX

    # Results.

    def warn(self, text):
        self.warnings += 1
        if self.warnings <= WARNINGS_MAX:
            self.pipe.send(b"W", clip(text, 480).encode("utf-8"))

    def display(self, objects, options):
        for value in objects:
            if options.get("raw") and isinstance(value, dict):
                forms = Forms(self.warn)
                forms.add_bundle(value)
                self.send_forms(forms, False)
            else:
                self.show(value, False)

    def result(self, value):
        self.show(value, True)
        self.close_figure(value)

    def show(self, value, is_main):
        if not self.pipe.usable():
            return
        if self.items >= RESULT_ITEMS_MAX:
            self.left_out += 1
            return
        if self.shows_itself(value):
            return
        forms = Forms(self.warn)
        forms.add_object(value)
        self.send_forms(forms, is_main)

    def shows_itself(self, value):
        """Some objects call display() on what they really show."""
        if isinstance(value, (str, int, float, type)) or \
                is_a(value, "plotly.basedatatypes", "BaseFigure") or \
                fakes_attributes(value):
            return False
        method = getattr(value, "_ipython_display_", None)
        if not callable(method):
            return False
        try:
            method()
        except NotImplementedError:
            return False
        except Exception as error:
            self.warn("display: _ipython_display_ failed: %s: %s" %
                      (class_name(error), safe_text(error)))
            return False
        return True

    def send_forms(self, forms, is_main):
        if self.items >= RESULT_ITEMS_MAX:
            self.left_out += 1
            return
        parts = {}
        for field in FIELDS:
            if field in forms.fields:
                parts[field] = forms.guarded(field, encode,
                                             forms.fields[field])
        parts["extra"] = forms.guarded("extra", encode, forms.extra) or "{}"
        parts = {name: text for name, text in parts.items() if text}
        self.fit(parts)
        parts["is_main_result"] = "true" if is_main else "false"
        payload = "{%s}" % ",".join('"%s":%s' % item for item in parts.items())
        with self.pipe.lock:
            self.items += 1
            self.bytes_left -= len(payload) + ITEM_OVERHEAD
            self.pipe.send(b"R", payload.encode("ascii"))

    def fit(self, parts):
        """Leaves out the largest forms until the rest has room."""
        while parts and sum(map(len, parts.values())) + ITEM_OVERHEAD > \
                self.bytes_left:
            largest = max(parts, key=lambda name: len(parts[name]))
            self.warn("display: `%s` of %d bytes left out: a job's results "
                      "may have %d bytes in all" %
                      (largest, len(parts.pop(largest)), RESULT_BYTES_MAX))

    def finish(self):
        """The figures still open, and what was left out."""
        pyplot = sys.modules.get("matplotlib.pyplot")
        if pyplot is not None and self.pipe.usable():
            try:
                self.show_figures(pyplot)
            except Exception as error:
                self.warn("open figures were not sent: %s: %s" %
                          (class_name(error), safe_text(error)))
        if self.left_out:
            self.warnings = 0
            self.warn("display: %d results were left out: a job may show %d" %
                      (self.left_out, RESULT_ITEMS_MAX))

    # Errors.

    def failure(self, error):
        """Reports what ended the code; what the process exits with."""
        code = 1
        if isinstance(error, SystemExit):
            code = error.code
            if code is None or code == 0:
                return 0
        try:
            name, value, trace = self.describe(error)
        except BaseException:
            name, value = class_name(error), safe_text(error)
            trace = "%s: %s\n" % (name, value)
        if not self.pipe.usable():
            if not isinstance(error, SystemExit):
                sys.__stderr__.write(trace)
            return code
        self.pipe.send(b"E", ('{"name":%s,"value":%s,"traceback":%s}' % (
            quote(name), quote(clip(value, ERROR_TEXT_MAX)),
            quote(clip(trace, TRACEBACK_BYTES_MAX)))).encode("ascii"))
        if sys.excepthook is not sys.__excepthook__ and \
                not isinstance(error, SystemExit):
            try:
                sys.excepthook(type(error), error, error.__traceback__)
            except BaseException as other:
                self.warn("sys.excepthook failed: %s" % safe_text(other))
        return code

    def describe(self, error):
        import traceback
        if isinstance(error, ModuleNotFoundError):
            self.add_hint(error)
        if isinstance(error, SyntaxError) and error.filename == CODE_NAME:
            self.add_line(error)
        top = error.__traceback__
        while top is not None and \
                top.tb_frame.f_code.co_filename != CODE_NAME:
            top = top.tb_next
        shown = traceback.TracebackException(type(error), error,
                                             top or error.__traceback__)
        self.drop_own_frames(shown)
        return (class_name(error), safe_text(error),
                "".join(shown.format()))

    def drop_own_frames(self, first):
        """Of an error and all it came from, which may be a long chain."""
        left, seen = [first], set()
        while left:
            shown = left.pop()
            if shown is None or id(shown) in seen:
                continue
            seen.add(id(shown))
            left += [shown.__cause__, shown.__context__,
                     *(getattr(shown, "exceptions", None) or ())]
            shown.stack[:] = [frame for frame in shown.stack
                              if frame.filename not in self.own_files]
            if not shown.stack and sys.version_info >= (3, 10):
                shown.stack = None
            elif not shown.stack:
                shown.exc_traceback = None

    def add_hint(self, error):
        """Which environments have the package, if the worker left a note."""
        import json
        try:
            with open(os.path.join(self.here, "packages.json"),
                      encoding="utf-8") as file:
                hints = json.load(file)["missing_hint"]
            hint = hints.get((error.name or "").partition(".")[0])
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return
        if isinstance(hint, str):
            error.msg = "%s. %s" % (error.msg, hint)

    def add_line(self, error):
        """The compiler looks for some lines in a file, which is not there or
        not the one."""
        lines = self.source.lines()
        if error.lineno and 0 < error.lineno <= len(lines):
            error.text = lines[error.lineno - 1]

    # Await at the top level.

    @staticmethod
    def new_loop():
        import asyncio
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        return loop

    @staticmethod
    def end_loop(loop):
        import asyncio
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        if tasks:
            loop.run_until_complete(
                asyncio.gather(*tasks, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
        asyncio.set_event_loop(None)
        loop.close()

    # Libraries.

    def pyplot_loaded(self, pyplot):
        from matplotlib.figure import Figure

        def show(*_args, **_kwargs):
            self.show_figures(pyplot)

        def show_one(figure, *_args, **_kwargs):
            self.show(figure, False)
            pyplot.close(figure)

        pyplot.show = show
        Figure.show = show_one

    def show_figures(self, pyplot):
        for number in pyplot.get_fignums():
            figure = pyplot.figure(number)
            self.show(figure, False)
            pyplot.close(figure)

    def close_figure(self, value):
        """So that a figure which was the main result does not come again."""
        pyplot = sys.modules.get("matplotlib.pyplot")
        if pyplot is not None and isinstance(value, pyplot.Figure):
            pyplot.close(value)

    def plotly_loaded(self, module):
        module.show = lambda figure, *_a, **_k: self.show(figure, False)

    def pil_loaded(self, module):
        module.show = lambda image, *_a, **_k: self.show(image, False)

    def ipython_loaded(self, module):
        module.display = self.rich.display

    def stand_in(self, name):
        from importlib.machinery import ModuleSpec
        loader = load_part(NOTEBOOK_FILE)["StandIn"](self.rich.display)
        return ModuleSpec(name, loader, is_package=name == "IPython")

    def spawn_loaded(self, module):
        prepare = module.get_preparation_data

        def get_preparation_data(name):
            data = prepare(name)
            # The main.py of the work folder is only a name; the driver runs
            # the real one under the child's name for it.
            if data.get("init_main_from_path"):
                data["init_main_from_path"] = os.path.join(
                    HERE, "python_driver.py")
            return data

        module.get_preparation_data = get_preparation_data
