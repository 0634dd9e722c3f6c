"""What notebook code imports from IPython.display, where there is no IPython.

Loaded by python_rich.py when code imports IPython. The objects have the forms
those of IPython have; what needs a notebook behind it is not there.
"""
import os
import sys


class Shown:
    mime = "text/plain"

    def __init__(self, data=None, url=None, filename=None, **options):
        if isinstance(data, os.PathLike):
            data = os.fspath(data)
        if filename is None and isinstance(data, str) and is_file(data):
            filename = data
        if filename is not None:
            with open(filename, "rb") as file:
                data = file.read()
        self.data, self.url, self.options = data, url, options

    def __repr__(self):
        return "<IPython.core.display.%s object>" % type(self).__name__

    def forms(self, data):
        if isinstance(data, bytes):
            data = data.decode("utf-8", "replace")
        return {self.mime: data}

    def _repr_mimebundle_(self, include=None, exclude=None):
        return self.forms(self.data)


def is_file(text):
    try:
        return os.path.isfile(text)
    except (OSError, ValueError):
        return False


class ShownSvg(Shown):
    mime = "image/svg+xml"

    def forms(self, data):
        text = super().forms(data)[self.mime]
        # Without the XML declaration, as it goes into a page.
        return {self.mime: text[max(text.find("<svg"), 0):]}


class ShownImage(Shown):
    starts = ((b"\xff\xd8", "image/jpeg"), (b"GIF8", "image/gif"),
              (b"RIFF", "image/webp"), (b"<", "image/svg+xml"))

    def forms(self, data):
        if isinstance(data, bytes):
            for start, mime in self.starts:
                if data.startswith(start):
                    return {mime: data}
            return {"image/png": data}
        return {"text/html": html_tag("img", src=self.url or data,
                                      **self.options)}


class ShownMath(Shown):
    def forms(self, data):
        return {"text/latex": "$\\displaystyle %s$" % str(data).strip("$")}


class ShownFrame:
    def __init__(self, src, width, height, **_params):
        self.attributes = {"src": src, "width": width, "height": height}

    def _repr_html_(self):
        return html_tag("iframe", **self.attributes) + "</iframe>"


def html_tag(name, **attributes):
    import html
    return "<%s%s>" % (name, "".join(
        ' %s="%s"' % (key, html.escape(str(value)))
        for key, value in attributes.items()
        if value is not None and key in ("src", "alt", "width", "height")))


def shown_classes():
    kinds = {"HTML": "text/html", "Markdown": "text/markdown",
             "Latex": "text/latex", "JSON": "application/json",
             "Pretty": "text/plain", "Javascript": "application/javascript"}
    classes = {name: type(name, (Shown,), {"mime": mime})
               for name, mime in kinds.items()}
    bases = {"SVG": ShownSvg, "Image": ShownImage, "Math": ShownMath,
             "IFrame": ShownFrame}
    classes.update((name, type(name, (base,), {}))
                   for name, base in bases.items())
    return classes


class StandIn:
    """Loads the module IPython or IPython.display."""

    def __init__(self, display):
        self.display = display

    def create_module(self, _spec):
        return None

    def exec_module(self, module):
        if module.__name__ == "IPython":
            self.fill_package(module)
            return
        module.display = self.display
        module.clear_output = lambda wait=False: None
        module.__dict__.update(shown_classes())

    @staticmethod
    def fill_package(package):
        """With what older code imports from IPython.core."""
        from importlib import import_module
        package.get_ipython = lambda: None
        core = package.core = type(sys)("IPython.core")
        core.__path__ = []
        core.display = import_module("IPython.display")
        core.getipython = package
        sys.modules.update({"IPython.core": core,
                            "IPython.core.display": core.display,
                            "IPython.core.getipython": package})
