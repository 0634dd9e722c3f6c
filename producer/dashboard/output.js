// output.js -- what a job prints, as it comes: text, in one box, the end in view.
import { h, plain } from "./dom.js";

const KEPT = 400000; // characters; above it the oldest go

export function outputBox() {
  const box = h("pre", { class: "output", tabindex: "0", role: "group", "aria-label": "Output" });
  const note = h("p", { class: "note", hidden: true });
  const element = h("div", {}, note, box);
  let size = 0,
    carriage = "";

  function trim() {
    while (size > KEPT && box.childNodes.length > 1) {
      size -= box.firstChild.textContent.length;
      box.firstChild.remove();
      remark("Earlier output is not shown here; the whole is in the result.");
    }
  }
  function remark(text) {
    note.textContent = text;
    note.hidden = !text;
  }
  return {
    element,
    remark,
    get empty() {
      return size === 0;
    },
    add(stream, text) {
      if (!text) return;
      // The two halves of a CR LF may come in two events.
      text = carriage + text;
      carriage = text.endsWith("\r") ? "\r" : "";
      if (carriage) text = text.slice(0, -1);
      const atEnd = box.scrollHeight - box.scrollTop - box.clientHeight < 24;
      const last = box.lastChild;
      const shown = plain(text);
      if (last?.dataset.stream === stream && last.textContent.length < 16384) last.append(shown);
      else box.append(h("span", { "data-stream": stream, class: stream }, shown));
      size += shown.length;
      trim();
      if (atEnd) box.scrollTop = box.scrollHeight;
    },
    clear() {
      box.replaceChildren();
      size = 0;
      carriage = "";
      remark("");
    },
  };
}
