// results.js -- what a job displayed and the files it left. Nothing of it is
// live: pictures are data, HTML and SVG lie in frames that may do nothing.
import { bytes, h, plain, table } from "./dom.js";

const FRAME_MAX = 420; // pixels; the reader may pull it larger
const ROW = 28;
const SHOWN_MAX = 256 * 1024; // characters of one text

const cut = (text) =>
  text.length > SHOWN_MAX ? `${text.slice(0, SHOWN_MAX)}\n… ${text.length - SHOWN_MAX} more characters` : text;
export const block = (text, label) =>
  h("pre", { tabindex: "0", role: "group", "aria-label": label }, cut(plain(text)));
const asText = (value) => (typeof value === "string" ? value : JSON.stringify(value, null, 2));
const clean = (base64) => String(base64).replace(/[^A-Za-z0-9+/=]/g, "");

function picture(type, base64, alt) {
  return h("img", { class: "picture", src: `data:${type};base64,${clean(base64)}`, alt });
}

// An empty sandbox: no scripts, no forms, no origin; the page's own policy holds
// in it, too. What those would stop anyway is taken out beforehand, so that a
// harmless table does not fill the console with complaints.
function frame(markup, label, height) {
  return h("iframe", {
    class: "frame",
    sandbox: "",
    referrerpolicy: "no-referrer",
    title: label,
    srcdoc: markup,
    height: Math.min(Math.max(height, 90), FRAME_MAX),
  });
}

// The browser complains of styles and handlers while it parses, though nothing
// of them can act: they are renamed before. Only for the console's peace; what
// keeps a frame quiet is its sandbox and the policy.
function hush(html) {
  const attribute = /(<[a-z][^<>]*?\s)(?=(?:style|on[a-z]+)\s*=)/gi;
  let quiet = html.replace(/<(style|script)\b[\s\S]*?(<\/\1\s*>|$)/gi, "");
  for (let i = 0; i < 16 && attribute.test(quiet); i++) quiet = quiet.replace(attribute, "$1data-was-");
  return quiet;
}

const REMOVED = "script, style, link, meta, base, iframe, frame, object, embed, form, template, noscript";
export function tame(html) {
  const parsed = new DOMParser().parseFromString(hush(html), "text/html");
  const rows = parsed.querySelectorAll("tr, p, li").length;
  for (const element of parsed.querySelectorAll(REMOVED)) element.remove();
  for (const element of parsed.querySelectorAll("*"))
    for (const { name, value } of [...element.attributes])
      if (
        name.startsWith("on") ||
        name === "style" ||
        name === "ping" ||
        (/^(src|srcset|href|action|background|poster|xlink:href|formaction)$/.test(name) &&
          !/^data:image\//.test(value))
      )
        element.removeAttribute(name);
  // It never enters this document, not even for a moment.
  const style = parsed.createElement("link");
  style.rel = "stylesheet";
  style.href = new URL("frame.css", location.href).href;
  parsed.head.replaceChildren(style);
  return { markup: `<!doctype html>${parsed.documentElement.outerHTML}`, rows };
}

function framedHtml(html, label) {
  const { markup, rows } = tame(html);
  return frame(markup, label, rows * ROW + 24);
}

// As a picture within the frame: an SVG in an img runs nothing and loads nothing.
function framedSvg(text, label) {
  const data = btoa(utf8Chunks(text).join(""));
  const image = h("img", { src: `data:image/svg+xml;base64,${data}`, alt: label });
  const [, height] =
    /^[^<]*(?:<[?!][^>]*>\s*)*<svg[^>]*?\sheight\s*=\s*["']?([\d.]+)(?:px|pt)?["'\s>]/i.exec(text) || [];
  return frame(tame(image.outerHTML).markup, label, height ? height * 1.34 + 24 : FRAME_MAX);
}

function utf8Chunks(text) {
  const all = new TextEncoder().encode(text),
    out = [];
  for (let i = 0; i < all.length; i += 8192) out.push(String.fromCharCode(...all.subarray(i, i + 8192)));
  return out;
}

// {column: [value…]…}, as a DataFrame's `data` is.
function dataTable(data, label) {
  const columns = Object.keys(data);
  const rows = Math.min(Math.max(0, ...columns.map((c) => data[c].length)), 500);
  return table(
    label,
    columns,
    Array.from({ length: rows }, (_, i) => ({
      key: `r${i}`,
      cells: columns.map((c) => plain(asText(data[c][i] ?? ""))),
    })),
    "Empty.",
  );
}
const isColumns = (data) =>
  data && typeof data === "object" && !Array.isArray(data) && Object.values(data).every(Array.isArray);

// The best first.
const FORMS = [
  ["png", (v, label, item) => picture("image/png", v, item.text ? plain(item.text).slice(0, 200) : label)],
  ["jpeg", (v, label, item) => picture("image/jpeg", v, item.text ? plain(item.text).slice(0, 200) : label)],
  ["svg", framedSvg],
  ["html", framedHtml],
  ["data", (v, label) => (isColumns(v) ? dataTable(v, label) : block(asText(v), label))],
  ["markdown", (v, label) => block(asText(v), label)],
  ["latex", (v, label) => block(asText(v), label)],
  ["json", (v, label) => block(asText(v), label)],
  ["text", (v, label) => block(asText(v), label)],
  ["chart", (v, label) => block(asText(v), label)],
  ["javascript", (v, label) => block(asText(v), label)],
  ["pdf", (v, label, item, n) => saver(`result-${n}.pdf`, "application/pdf", v)],
  ["extra", (v, label) => block(asText(v), label)],
];

const saver = (name, type, base64) =>
  h(
    "button",
    {
      type: "button",
      "data-act": "save",
      "data-id": name,
      "data-type": type,
      "data-content": clean(base64),
      "aria-label": `Download ${name}`,
    },
    "Download",
  );

function source(item, form) {
  return form === "html" || form === "svg"
    ? h(
        "details",
        {},
        h("summary", {}, `Source of the ${form.toUpperCase()}`),
        block(item[form], `${form} source`),
      )
    : null;
}

const isNothing = (value) =>
  value === undefined || value === null || (typeof value === "object" && Object.keys(value).length === 0);

export function resultItem(item, n) {
  const forms = FORMS.filter(([name]) => !isNothing(item[name]));
  if (!forms.length) return null;
  const label = (name) => `Result ${n}, ${name}`;
  const [[best, draw], ...others] = forms;
  return h(
    "div",
    { class: "result" },
    h("p", { class: "dim" }, `${n}. ${best}`, item.is_main_result ? " – value of the last line" : ""),
    draw(item[best], label(best), item, n),
    source(item, best),
    others.map(([name, how]) =>
      h(
        "details",
        {},
        h("summary", {}, `As ${name}`),
        how(item[name], label(name), item, n),
        source(item, name),
      ),
    ),
  );
}

const PICTURES = /^image\/(png|jpeg|gif|webp)$/;
export function fileTable(files) {
  return [
    table(
      "Files",
      ["File", "Size#", "-Type", ""],
      files.map((file) => ({
        key: file.path,
        cells: [
          h("span", { class: "id" }, plain(file.path)),
          bytes(file.size),
          plain(file.mime || "–"),
          file.skipped
            ? h("span", { class: "dim" }, `not kept: ${plain(file.skipped)}`)
            : saver(file.path, file.mime || "", file.content_base64 || ""),
        ],
      })),
      "None.",
    ),
    files
      .filter((file) => PICTURES.test(file.mime) && file.content_base64)
      .map((file) => picture(file.mime, file.content_base64, plain(file.path))),
  ];
}

// The click on one of the buttons above.
export function save(button) {
  const raw = atob(button.dataset.content);
  const data = Uint8Array.from(raw, (c) => c.charCodeAt(0));
  // Never of a type that a browser would open by itself.
  const url = URL.createObjectURL(new Blob([data], { type: "application/octet-stream" }));
  const anchor = h("a", { href: url, download: button.dataset.id.split("/").pop() });
  anchor.click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}
