// charts.js -- charts as plain SVG: a picture with a name and a description,
// and the same figures as a table below it.
import { clock, h, svg } from "./dom.js";

const HEIGHT = 168;
const EDGE = { left: 50, right: 10, top: 10, bottom: 22 };

// A round figure at or above n.
function ceiling(n) {
  const power = 10 ** Math.floor(Math.log10(n));
  return [1, 2, 5, 10].map((k) => k * power).find((k) => k >= n * 0.999999);
}

function linear(most) {
  const top = ceiling(Math.max(most, 1));
  return { y: (v) => v / top, ticks: [0, top / 2, top] };
}

function logarithmic(least, most) {
  const low = Math.floor(Math.log10(Math.max(least, 1e-4)));
  const high = Math.max(Math.ceil(Math.log10(Math.max(most, 1e-4))), low + 1);
  const step = high - low > 4 ? 2 : 1;
  const ticks = [];
  for (let e = low; e <= high; e += step) ticks.push(10 ** e);
  return { y: (v) => (Math.log10(Math.max(v, 10 ** low)) - low) / (high - low), ticks };
}

function bounds(series, stacked) {
  const sums = new Map();
  let least = Infinity,
    most = 0;
  for (const { points } of series)
    for (const [t, v] of points) {
      if (v === null) continue;
      sums.set(t, ((stacked && sums.get(t)) || 0) + v);
      least = Math.min(least, v);
      most = Math.max(most, sums.get(t), v);
    }
  return { least, most };
}

function bars(series, x, y, width) {
  const base = new Map();
  const floor = HEIGHT - EDGE.bottom;
  return series.map(({ name, look, points }) =>
    svg(
      "g",
      { class: `bars ${look}` },
      points
        .filter(([, v]) => v > 0)
        .map(([t, v]) => {
          const below = base.get(t) || 0;
          base.set(t, below + v);
          const top = y(below + v),
            bottom = below ? y(below) : floor;
          return svg(
            "rect",
            {
              x: (x(t) - width / 2).toFixed(1),
              y: top.toFixed(1),
              width: width.toFixed(1),
              height: Math.max(bottom - top, 0.8).toFixed(1),
            },
            svg("title", {}, `${clock(t, false)}: ${v} ${name}`),
          );
        }),
    ),
  );
}

// A point more than `gap` seconds after the one before begins a new line.
function path(points, x, y, gap) {
  let d = "",
    before = -Infinity;
  for (const [t, v] of points) {
    if (v === null) continue;
    d += `${t - before > gap ? "M" : "L"}${x(t).toFixed(1)} ${y(v).toFixed(1)}`;
    before = t;
  }
  return d;
}

function lines(series, x, y, { gap, dots, format }) {
  return series.map(({ name, look, points }) =>
    svg(
      "g",
      { class: `line ${look}` },
      svg("path", { d: path(points, x, y, gap) }),
      dots &&
        points
          .filter(([, v]) => v !== null)
          .map(([t, v]) =>
            svg(
              "circle",
              { cx: x(t).toFixed(1), cy: y(v).toFixed(1), r: 2.2 },
              svg("title", {}, `${clock(t, false)}: ${name} ${format(v)}`),
            ),
          ),
    ),
  );
}

function axes(scale, x, y, width, from, to, format) {
  const across = scale.ticks.map((tick) =>
    svg(
      "g",
      { class: "tick" },
      svg("line", { x1: EDGE.left, x2: width - EDGE.right, y1: y(tick).toFixed(1), y2: y(tick).toFixed(1) }),
      svg("text", { x: EDGE.left - 6, y: (y(tick) + 3.5).toFixed(1), "text-anchor": "end" }, format(tick)),
    ),
  );
  const down = [];
  const step = to - from > 2700 ? (width < 420 ? 1200 : 900) : to - from > 900 ? 300 : 60;
  for (let t = Math.ceil(from / step) * step; t <= to; t += step)
    if (x(t) > EDGE.left + 14 && x(t) < width - 18)
      down.push(
        svg(
          "text",
          { class: "when", x: x(t).toFixed(1), y: HEIGHT - 6, "text-anchor": "middle" },
          clock(t, false),
        ),
      );
  return svg("g", { class: "axes" }, across, down);
}

const legend = (series) =>
  h(
    "ul",
    { class: "legend" },
    series.map(({ name, look }) =>
      h("li", { "data-key": name }, h("span", { class: `swatch ${look}`, "aria-hidden": "true" }), name),
    ),
  );

function asTable(title, series, format) {
  const times = [
    ...new Set(series.flatMap(({ points }) => points.filter(([, v]) => v !== null).map(([t]) => t))),
  ]
    .sort((a, b) => b - a)
    .slice(0, 60);
  const values = series.map(({ points }) => new Map(points));
  const cell = (v) => (v === undefined || v === null ? "–" : format(v));
  return h(
    "details",
    {},
    h("summary", {}, "Figures", h("span", { class: "unseen" }, ` of ${title}`)),
    times.length === 0
      ? h("p", { class: "empty" }, "None yet.")
      : h(
          "div",
          { class: "scroll short", tabindex: "0", role: "group", "aria-label": `${title}, figures` },
          h(
            "table",
            {},
            h(
              "thead",
              {},
              h(
                "tr",
                {},
                h("th", { scope: "col" }, "Time"),
                series.map(({ name }) => h("th", { scope: "col", class: "num" }, name)),
              ),
            ),
            h(
              "tbody",
              {},
              times.map((t) =>
                h(
                  "tr",
                  { "data-key": t },
                  h("td", {}, clock(t, false)),
                  values.map((of) => h("td", { class: "num" }, cell(of.get(t)))),
                ),
              ),
            ),
          ),
        ),
  );
}

// what: {id, title, about, width, from, to, kind: "bars" | "lines", series:
// [{name, look, points: [[unix, value | null]…]}…], format, most?, log?, gap?}
export function chart(what) {
  const { id, title, about, width, from, to, series, format } = what;
  const { least, most } = bounds(series, what.kind === "bars");
  const empty = least === Infinity;
  const scale = what.log ? logarithmic(empty ? 0.01 : least, empty ? 1 : most) : linear(what.most || most);
  const inner = HEIGHT - EDGE.top - EDGE.bottom;
  const x = (t) => EDGE.left + ((t - from) / (to - from)) * (width - EDGE.left - EDGE.right);
  const y = (v) => HEIGHT - EDGE.bottom - scale.y(v) * inner;
  const minute = (60 / (to - from)) * (width - EDGE.left - EDGE.right);
  return h(
    "figure",
    { class: "chart card", "data-key": id },
    h("figcaption", {}, h("h2", {}, title), legend(series)),
    svg(
      "svg",
      {
        role: "img",
        width,
        height: HEIGHT,
        viewBox: `0 0 ${width} ${HEIGHT}`,
        "aria-labelledby": `${id}-t ${id}-d`,
      },
      svg("title", { id: `${id}-t` }, title),
      svg("desc", { id: `${id}-d` }, about),
      axes(scale, x, y, width, from, to, what.ticks || format),
      what.kind === "bars"
        ? bars(series, x, y, Math.max(minute * 0.72, 1.5))
        : lines(series, x, y, { gap: what.gap || 90, dots: what.dots, format }),
      empty &&
        svg(
          "text",
          { class: "none", x: width / 2, y: HEIGHT / 2, "text-anchor": "middle" },
          what.empty || "nothing in this hour",
        ),
    ),
    what.note && h("p", { class: "note" }, what.note),
    asTable(title, series, format),
  );
}
