"""The data of matplotlib's plots, in the shape of E2B's charts.

figure_chart(figure) gives a dict as E2B's SDKs read it (types line, scatter,
bar, pie, box_and_whisker, superchart and unknown), or None for a figure that
shows nothing. Loaded by python_rich.py when the first figure is shown. What it
raises is a warning of the job at most: the picture is there in any case.

Where E2B's own extractor reads a plot wrongly, this one reads it right: bars
of one height, bars at numbers, error bars, boxes drawn as lines, a single box,
horizontal boxes, notches, two and more outliers, dates in scatter plots.
"""
import re
import sys
from bisect import bisect, bisect_left

# Points, bars, wedges and boxes of one figure. Making and encoding as many
# takes about as long as drawing the figure, and gives about a megabyte.
CHART_VALUES_MAX = 20000

UNIT = re.compile(r"\s\((.*?)\)|\[(.*?)\]")


class TooMany(Exception):
    """More values than a chart may have."""


def figure_chart(figure):
    import warnings
    axes = figure.get_axes()
    values = sum(map(count_values, axes))
    if values > CHART_VALUES_MAX:
        raise TooMany("a figure of %d values (at most %d)" %
                      (values, CHART_VALUES_MAX))
    if not any(artists_of(one) for one in axes):
        return None
    with warnings.catch_warnings():
        # Whatever there is to warn of, drawing has.
        warnings.simplefilter("ignore")
        if len(axes) == 1:
            return axes_chart(axes[0])
        return {"type": "superchart", "title": super_title(figure),
                "elements": [axes_chart(one) for one in axes]}


def super_title(figure):
    title = getattr(figure, "_suptitle", None)
    return title.get_text() if title is not None else ""


def count_values(axes):
    return (sum(len(line.get_xdata()) for line in axes.lines) +
            sum(len(group.get_offsets()) for group in axes.collections) +
            len(axes.patches))


def is_empty_patch(artist):
    """seaborn's legends are made of rectangles of no size."""
    from matplotlib.patches import Rectangle
    return (isinstance(artist, Rectangle) and
            artist.get_width() == artist.get_height() == 0)


def error_marks(axes):
    """The bars and caps that say how sure a point or a bar is."""
    from matplotlib.container import ErrorbarContainer
    marks = set()
    for group in axes.containers:
        if isinstance(group, ErrorbarContainer):
            _line, caps, bars = group.lines
            marks.update(map(id, [*caps, *bars]))
    return marks


def artists_of(axes):
    """What was plotted; texts and error bars do not count."""
    marks = error_marks(axes)
    return [artist for artist in
            [*axes.lines, *axes.collections, *axes.images, *axes.artists,
             *axes.tables, *axes.patches]
            if id(artist) not in marks and not is_empty_patch(artist)]


def axes_chart(axes):
    from matplotlib.collections import PathCollection
    from matplotlib.lines import Line2D
    from matplotlib.patches import PathPatch, Rectangle, Wedge
    artists = artists_of(axes)
    if getattr(axes, "name", "") == "3d":
        return base(axes, "unknown")

    def only(*kinds):
        return all(isinstance(artist, kinds) for artist in artists)

    if only(Line2D, PathPatch):
        boxes = box_chart(axes)
        if boxes is not None:
            return boxes
        if only(Line2D):
            return line_chart(axes, artists)
        return base(axes, "unknown")
    artists = [artist for artist in artists
               if not isinstance(artist, Line2D) or not is_grid_line(artist)]
    if only(PathCollection):
        return scatter_chart(axes)
    if only(Wedge):
        return pie_chart(axes)
    if only(Rectangle):
        return bar_chart(axes) or base(axes, "unknown")
    return base(axes, "unknown")


def is_grid_line(line):
    """A straight line across, as axhline() draws; no series of its own."""
    xs, ys = line.get_xdata(), line.get_ydata()
    if not len(xs) == len(ys) == 2:
        return False
    (x, x_end), (y, y_end) = xs, ys
    return bool(x == x_end or y == y_end)


# The parts charts have in common.

def base(axes, kind):
    return {"type": kind, "title": axes.get_title() or None, "elements": []}


def unit_of(label):
    match = UNIT.search(label or "")
    return (match.group(1) or match.group(2) or None) if match else None


def with_labels(chart, axes, turned=False):
    """Labels and units; those of a horizontal plot stand as if it were
    upright."""
    x, y = axes.get_xlabel() or None, axes.get_ylabel() or None
    if turned:
        x, y = y, x
    chart.update(x_label=x, y_label=y, x_unit=unit_of(x), y_unit=unit_of(y))
    return chart


def converter_of(axis):
    get = getattr(axis, "get_converter", None)
    return get() if get is not None else getattr(axis, "converter", None)


def is_date_axis(axis):
    from matplotlib import dates
    kinds = [dates.DateConverter]
    if hasattr(dates, "_SwitchableDateConverter"):
        kinds.append(dates._SwitchableDateConverter)
    return isinstance(converter_of(axis), tuple(kinds))


def period_frequency(axis):
    """Of an axis on which pandas counts periods, else None."""
    if type(converter_of(axis)).__name__ != "PeriodConverter":
        return None
    return getattr(axis, "freq", None) or getattr(axis.axes, "freq", None)


def is_category_axis(axis):
    return type(converter_of(axis)).__name__ == "StrCategoryConverter"


def is_number(text):
    try:
        float(text.replace("\u2212", "-"))
    except ValueError:
        return False
    return True


def scale_of(axis, ticks, labels):
    if date_text(axis):
        return "datetime"
    if axis.get_scale() != "linear":
        return axis.get_scale()
    if is_category_axis(axis):
        return "categorical"
    # Ticks 0 to n-1 with names for labels.
    if ticks and ticks == list(range(len(ticks))) and \
            not any(map(is_number, labels)):
        return "categorical"
    return "linear"


def date_text(axis, zone=True):
    """What makes text of the numbers on an axis of dates; None on others."""
    from matplotlib import dates
    frequency = period_frequency(axis)
    if frequency is not None:
        period = sys.modules["pandas"].Period
        return lambda number: str(period(ordinal=int(number), freq=frequency))
    if not is_date_axis(axis):
        return None
    if zone:
        return lambda number: dates.num2date(number).isoformat()
    return lambda number: \
        dates.num2date(number).replace(tzinfo=None).isoformat()


def tick_values(axis, ticks):
    return list(map(date_text(axis) or float, ticks))


def tick_labels(axis):
    return [label.get_text() for label in axis.get_majorticklabels()]


def with_ticks(chart, axes):
    for name, axis in (("x", axes.xaxis), ("y", axes.yaxis)):
        labels = tick_labels(axis)
        ticks = tick_values(axis, axis.get_majorticklocs())
        chart[name + "_ticks"] = ticks
        chart[name + "_tick_labels"] = labels
        chart[name + "_scale"] = scale_of(axis, ticks, labels)
    return chart


# Lines and points.

def plain(value):
    """A date as text. All other values are what encode() can write."""
    if hasattr(value, "isoformat"):
        text = value.isoformat()
        return None if text == "NaT" else text
    if type(value).__name__ == "Period":
        return str(value)
    return value


def plain_values(values):
    if hasattr(values, "to_numpy"):
        values = values.to_numpy()
    kind = getattr(getattr(values, "dtype", None), "kind", None)
    if kind == "M":
        texts = values.astype("datetime64[s]").astype(str).tolist()
        return [None if text == "NaT" else text for text in texts]
    if kind is not None and kind != "O":
        return values.tolist()
    return [plain(value) for value in values]


def points(xs, ys):
    return [list(point) for point in zip(plain_values(xs), plain_values(ys))]


def named(label, prefix, shown):
    """A label that matplotlib made, as E2B shows it."""
    return shown + label[len(prefix):] if label.startswith(prefix) else label


def error_bar_labels(axes):
    """errorbar() labels the whole, and not its line: {id of line: label}."""
    return {id(group[0]): named(str(group.get_label()), "_container", "Line ")
            for group in axes.containers
            if len(group) > 0 and group.get_label()}


def line_chart(axes, lines):
    chart = with_ticks(with_labels(base(axes, "line"), axes), axes)
    labels = error_bar_labels(axes)
    for position, line in enumerate(lines):
        if is_grid_line(line):
            continue
        label = str(line.get_label())
        if label == "_nolegend_":
            label = labels.get(id(line), "Line %d" % position)
        chart["elements"].append({
            "label": named(label, "_child", "Line "),
            "points": points(line.get_xdata(), line.get_ydata())})
    return chart


def scatter_axis(axis, values):
    """Points of a scatter plot are numbers, also where the axis has dates."""
    text = date_text(axis, zone=False)
    if text is None:
        return values.tolist()
    return [None if value is None else text(value)
            for value in values.tolist()]


def scatter_chart(axes):
    chart = with_ticks(with_labels(base(axes, "scatter"), axes), axes)
    for group in axes.collections:
        offsets = group.get_offsets()
        chart["elements"].append({
            "label": str(group.get_label()),
            "points": [list(point) for point in
                       zip(scatter_axis(axes.xaxis, offsets[:, 0]),
                           scatter_axis(axes.yaxis, offsets[:, 1]))]})
    return chart


# Pies and bars.

def pie_chart(axes):
    chart = base(axes, "pie")
    for wedge in axes.patches:
        chart["elements"].append({
            "label": str(wedge.get_label()),
            "angle": float("%.9g" % abs(wedge.theta2 - wedge.theta1)),
            "radius": float(wedge.r)})
    return chart


def number(low, high):
    """The middle of both as text."""
    return "%.10g" % ((low + high) / 2)


class Ticks:
    """Names things by their place on an axis."""

    def __init__(self, axis):
        ticks = sorted(zip(map(float, axis.get_majorticklocs()),
                           tick_labels(axis)))
        self.places = [place for place, _ in ticks]
        self.labels = [label for _, label in ticks]
        # Set by the code, and not where matplotlib found room for a tick.
        self.chosen = not axis.isDefault_majloc or is_category_axis(axis)

    def within(self, low, high):
        slack = (high - low) * 1e-6
        i = bisect_left(self.places, low - slack)
        while i < len(self.places) and self.places[i] <= high + slack:
            if self.labels[i]:
                return self.labels[i]
            i += 1
        return None

    def nearest(self, place):
        if not self.places or not self.chosen:
            return None
        i = bisect(self.places, place)
        near = range(max(i - 1, 0), min(i + 1, len(self.places)))
        return self.labels[min(near,
                               key=lambda k: abs(self.places[k] - place))]

    def names(self, spans):
        """For (low, high) of each, by a tick in it; or one by one, where as
        many ticks as things stand; else its middle."""
        if not self.chosen:
            return [number(low, high) for low, high in spans]
        names = [self.within(low, high) for low, high in spans]
        if all(names):
            return names
        if len(self.labels) == len(spans):
            order = sorted(range(len(spans)), key=lambda i: sum(spans[i]))
            for label, i in zip(self.labels, order):
                names[i] = label
            return names
        return [name or number(*span) for name, span in zip(names, spans)]


def bar_span(bar, turned):
    start, size = ((bar.get_y(), bar.get_height()) if turned else
                   (bar.get_x(), bar.get_width()))
    return min(start, start + size), max(start, start + size)


def is_turned(bars):
    orientation = getattr(bars, "orientation", None)
    if orientation is not None:
        return orientation == "horizontal"
    return len(bars) > 1 and len({bar.get_height() for bar in bars}) == 1


def bar_chart(axes):
    from matplotlib.container import BarContainer
    # What was taken off the axes is still in its container.
    groups = [(group, [bar for bar in group if bar.axes is axes])
              for group in axes.containers if isinstance(group, BarContainer)]
    groups = [(group, bars) for group, bars in groups if bars]
    if not groups:
        return None
    turned = is_turned(groups[0][0])
    chart = with_labels(base(axes, "bar"), axes, turned)
    ticks = Ticks(axes.yaxis if turned else axes.xaxis)
    for group, bars in groups:
        label = named(str(group.get_label()), "_container", "Group ")
        names = ticks.names([bar_span(bar, turned) for bar in bars])
        for name, bar in zip(names, bars):
            value = bar.get_width() if turned else bar.get_height()
            chart["elements"].append({
                "label": name, "group": label, "value": float(value)})
    return chart


# Boxes and whiskers: a box, and around it lines that tell by their direction
# and their order what they are.

class Box:
    def __init__(self, places, values):
        self.low, self.high = min(places), max(places)
        self.bottom, self.top = min(values), max(values)
        self.whiskers, self.flat, self.dots = [], [], []

    def holds(self, places):
        slack = (self.high - self.low) * 1e-6
        return (self.low - slack <= min(places) and
                max(places) <= self.high + slack)

    def take(self, line, places, values):
        if line.get_linestyle() in ("None", "none", " ", ""):
            self.dots.extend(values)
        elif len(values) == 2 and places[0] == places[1]:
            self.whiskers.append((min(values), max(values)))
        elif len(values) == 2 and values[0] == values[1]:
            self.flat.append(values[0])

    def median(self, least, most):
        """Behind the two caps, if it has caps, and before the mean."""
        if len(self.flat) > 2 and self.flat[:2] == [least, most]:
            return self.flat[2]
        return self.flat[0]

    def element(self, label):
        """None if the lines are not those of a box."""
        if len(self.whiskers) < 2 or not self.flat:
            return None
        lower = min(self.whiskers, key=sum)
        upper = max(self.whiskers, key=sum)
        middle = (self.bottom + self.top) / 2
        if lower[1] > middle or upper[0] < middle:
            return None
        least, most = lower[0], upper[1]
        return {"label": label, "min": least, "first_quartile": lower[1],
                "median": self.median(least, most),
                "third_quartile": upper[0], "max": most,
                "outliers": [dot for dot in self.dots
                             if not least <= dot <= most]}


def shapes_of(axes):
    """[(line or None for a patch, xs, ys)]"""
    from matplotlib.patches import PathPatch
    shapes = []
    for patch in axes.patches:
        if isinstance(patch, PathPatch):
            corners = patch.get_path().vertices
            shapes.append((None, corners[:, 0].tolist(),
                           corners[:, 1].tolist()))
    for line in axes.lines:
        xs, ys = line.get_data(orig=False)
        shapes.append((line, xs.tolist(), ys.tolist()))
    return shapes


def is_outline(line, xs, ys):
    """A box without a notch has 5 corners, one with it 11."""
    return line is None or (len(xs) in (5, 11) and
                            (xs[0], ys[0]) == (xs[-1], ys[-1]))


def read_boxes(shapes, ticks, turned):
    """Elements, or None if these are no boxes, or not in this direction."""
    if turned:
        shapes = [(line, ys, xs) for line, xs, ys in shapes]
    boxes = {}
    for line, places, values in shapes:
        if is_outline(line, places, values):
            box = Box(places, values)
            boxes[box.low] = box
    lows = sorted(boxes)
    for line, places, values in shapes:
        if not places or is_outline(line, places, values):
            continue
        box = boxes[lows[bisect(lows, min(places)) - 1]]
        if not box.holds(places):
            return None
        box.take(line, places, values)
    elements = []
    for low in lows:
        box = boxes[low]
        label = (ticks.within(box.low, box.high) or
                 ticks.nearest((box.low + box.high) / 2) or
                 number(box.low, box.high))
        elements.append(box.element(label))
    return elements if elements and all(elements) else None


def box_chart(axes):
    shapes = shapes_of(axes)
    if not any(is_outline(*shape) for shape in shapes):
        return None
    for turned in (False, True):
        ticks = Ticks(axes.yaxis if turned else axes.xaxis)
        elements = read_boxes(shapes, ticks, turned)
        if elements is not None:
            chart = with_labels(base(axes, "box_and_whisker"), axes, turned)
            chart["elements"] = elements
            return chart
    return None
