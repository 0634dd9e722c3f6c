// dom.js -- elements out of text, never out of markup, and how figures are written.

const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === false || value === null || value === undefined) continue;
    node.setAttribute(name, value === true ? "" : String(value));
  }
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    node.append(child instanceof Node ? child : String(child));
  }
  return node;
}

export const h = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
export const svg = (tag, attributes, ...children) =>
  fill(document.createElementNS(SVG, tag), attributes, children);

// ---- bringing what is on the page up to date ------------------------------

const keyOf = (node) => (node.nodeType === 1 ? node.getAttribute("data-key") : null);

// What the reader did to an element is the reader's.
const kept = (node, name) => (name === "open" && node.localName === "details") || name === "data-busy";

function morphAttributes(live, fresh) {
  for (const { name } of [...live.attributes])
    if (!fresh.hasAttribute(name) && !kept(live, name)) live.removeAttribute(name);
  for (const { name, value } of fresh.attributes)
    if (live.getAttribute(name) !== value && !kept(live, name)) live.setAttribute(name, value);
}

const alike = (a, b) => a.nodeType === b.nodeType && a.nodeName === b.nodeName && keyOf(a) === keyOf(b);

// Makes `live` look like `fresh` and keeps its nodes, so that focus, selection
// and scrolling survive. Children with a data-key are found again wherever they
// are; those with data-own look after themselves.
export function morph(live, fresh) {
  if (live.nodeType !== 1) {
    if (live.nodeValue !== fresh.nodeValue) live.nodeValue = fresh.nodeValue;
    return;
  }
  morphAttributes(live, fresh);
  if (live.hasAttribute("data-own")) return;
  morphChildren(live, [...fresh.childNodes]);
}

function morphChildren(live, wanted) {
  const keys = new Set(wanted.map(keyOf).filter(Boolean));
  for (const child of [...live.childNodes]) if (keyOf(child) && !keys.has(keyOf(child))) child.remove();
  const byKey = new Map();
  for (const child of live.childNodes) if (keyOf(child)) byKey.set(keyOf(child), child);

  let at = live.firstChild;
  for (const child of wanted) {
    const known = keyOf(child) ? byKey.get(keyOf(child)) : null;
    if (known && known !== at) live.insertBefore(known, at);
    const same = known || at;
    if (same && alike(same, child)) {
      if (same === at) at = at.nextSibling;
      morph(same, child);
    } else {
      live.insertBefore(child, at);
    }
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}

export function show(root, ...children) {
  morphChildren(
    root,
    children.flat(Infinity).filter((child) => child instanceof Node),
  );
}

// ---- texts ----------------------------------------------------------------

// What a terminal or a line of text would obey is shown by its number instead:
// escapes and other controls, marks that turn the direction of writing.
const hex = (c, digits) => c.charCodeAt(0).toString(16).padStart(digits, "0");
export function plain(text) {
  return String(text)
    .replace(/\r\n?/g, "\n")
    .replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g, (c) => `\\x${hex(c, 2)}`)
    .replace(/[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, (c) => `\\u${hex(c, 4)}`);
}

const whole = new Intl.NumberFormat("en");
export const count = (n) => (Number.isFinite(n) ? whole.format(n) : "–");

export function seconds(s) {
  if (s === null || s === undefined || !Number.isFinite(s)) return "–";
  if (s < 0.0005) return "0 ms";
  if (s < 0.9995) return `${(s * 1000).toFixed(s < 0.01 ? 1 : 0)} ms`;
  if (s < 99.5) return `${s.toFixed(s < 9.95 ? 2 : 1)} s`;
  return age(s);
}

export function age(s) {
  if (s === null || s === undefined || !Number.isFinite(s)) return "–";
  s = Math.max(0, Math.round(s));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
}

export function bytes(n) {
  if (!Number.isFinite(n)) return "–";
  const units = ["B", "KiB", "MiB", "GiB"];
  let unit = 0;
  while (n >= 1024 && unit < units.length - 1) {
    n /= 1024;
    unit++;
  }
  return `${unit && n < 10 ? n.toFixed(1) : Math.round(n)} ${units[unit]}`;
}

const two = (n) => String(n).padStart(2, "0");
export function clock(unix, withSeconds = true) {
  const d = new Date(unix * 1000);
  return `${two(d.getHours())}:${two(d.getMinutes())}` + (withSeconds ? `:${two(d.getSeconds())}` : "");
}

// A moment: the time of day, and the date where it is not today.
export function moment(unix) {
  if (!unix) return "–";
  const d = new Date(unix * 1000);
  const day = `${d.getFullYear()}-${two(d.getMonth() + 1)}-${two(d.getDate())}`;
  const today = d.toDateString() === new Date().toDateString();
  return h(
    "time",
    { datetime: d.toISOString(), title: `${day} ${clock(unix)}` },
    today ? clock(unix) : `${day} ${clock(unix)}`,
  );
}

// ---- pieces that many pages have -------------------------------------------

const KINDS = {
  ok: "good",
  succeeded: "good",
  running: "busy",
  queued: "wait",
  delayed: "wait",
  cancelling: "wait",
  cancelled: "idle",
  expired: "idle",
  dead: "crit",
  lost: "crit",
  setup_failed: "crit",
  backend_error: "crit",
};
const MARKS = { good: "✓", busy: "▶", wait: "…", idle: "–", crit: "✖", bad: "✕" };

export const kindOf = (word) => KINDS[word] || "bad";

// A verdict, or a status where there is none yet. Never by colour alone.
export function badge(word) {
  const kind = kindOf(word);
  return h(
    "span",
    { class: `badge ${kind}` },
    h("span", { "aria-hidden": "true" }, MARKS[kind]),
    String(word).replaceAll("_", " "),
  );
}

export const jobLink = (id) => h("a", { href: `#/jobs/${encodeURIComponent(id)}`, class: "id", title: id }, id);

// Buttons say what they are for by data-act and data-id; app.js listens.
export const act = (action, id, text, label, more) =>
  h("button", { type: "button", "data-act": action, "data-id": id, "aria-label": label, ...more }, text);

// rows: arrays of cells. A head that begins with "-" is left out where it is narrow.
export function table(label, heads, rows, empty) {
  if (!rows.length) return h("p", { class: "empty" }, empty);
  const narrow = heads.map((head) => (head.startsWith("-") ? "wide" : null));
  const number = heads.map((head) => (head.endsWith("#") ? "num" : null));
  const classes = (i) => [narrow[i], number[i]].filter(Boolean).join(" ") || null;
  const title = (head) => head.replace(/^-|#$/g, "");
  return h(
    "div",
    { class: "scroll", tabindex: "0", role: "group", "aria-label": label },
    h(
      "table",
      {},
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          heads.map((head, i) =>
            title(head)
              ? h("th", { scope: "col", class: classes(i) }, title(head))
              : h("td", { class: classes(i) }),
          ),
        ),
      ),
      h(
        "tbody",
        {},
        rows.map((row) =>
          h(
            "tr",
            { "data-key": row.key },
            row.cells.map((cell, i) => h("td", { class: classes(i) }, cell)),
          ),
        ),
      ),
    ),
  );
}

export const card = (title, ...children) =>
  h("section", { class: "card", "aria-label": title }, h("h2", {}, title), children);

export const facts = (pairs) =>
  h(
    "dl",
    { class: "facts" },
    pairs
      .filter((pair) => pair && pair[1] !== null && pair[1] !== undefined && pair[1] !== "")
      .map(([name, value]) => h("div", { "data-key": name }, h("dt", {}, name), h("dd", {}, value))),
  );
