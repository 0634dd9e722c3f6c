// output.js -- what a job prints, as it comes: text, in one box, the end in view.
//
// To lay the box out costs more than to fill it: what comes is gathered and
// drawn once per frame, in blocks, so that a new line moves the last block only.
import { count, h, plain } from "./dom.js";

// What the box keeps, about; above it the oldest go.
const KEPT_CHARACTERS = 400000;
const KEPT_LINES = 20000;
const BLOCK = 4096; // characters that are laid out together, about

const linesOf = (text) => text.split("\n").length - 1;

// At most a block each, cut behind a line's end where there is one.
function* pieces(text) {
  for (let from = 0, to; from < text.length; from = to) {
    to = Math.min(from + BLOCK, text.length);
    const end = text.lastIndexOf("\n", to - 1) + 1;
    if (end > from) to = end;
    else if (to < text.length && /[\ud800-\udbff]/.test(text[to - 1])) to--;
    yield text.slice(from, to);
  }
}

export function outputBox() {
  const box = h("pre", { class: "output", tabindex: "0", role: "group", "aria-label": "Output" });
  const anew = h("p", { class: "note", hidden: true }, "The job started over; this is its last try.");
  const cut = h("p", { class: "note", hidden: true });
  const element = h("div", {}, anew, cut, box);
  let waiting = [], // what came since the last frame: {stream, text}, no two alike in a row
    held = 0, // characters of it
    frame = 0,
    kept = { characters: 0, lines: 0 },
    gone = { characters: 0, lines: 0 },
    carriage = {};

  function tally(sum, text, sign = 1) {
    sum.characters += sign * text.length;
    sum.lines += sign * linesOf(text);
  }

  // A block ends where a line does, for it shows as one.
  function blockFor(text) {
    const last = box.lastChild;
    const full = last && last.textContent.length + text.length > BLOCK;
    return last && !(full && last.textContent.endsWith("\n")) ? last : box.appendChild(h("div", {}));
  }

  function append(stream, text) {
    const block = blockFor(text);
    const last = block.lastChild;
    if (last?.dataset.stream === stream && last.textContent.length + text.length <= BLOCK) last.append(text);
    else block.append(h("span", { "data-stream": stream, class: stream }, text));
    tally(kept, text);
  }

  function trim() {
    while (kept.characters > KEPT_CHARACTERS || kept.lines > KEPT_LINES) {
      const block = box.firstChild;
      const text = block.firstChild.textContent;
      if (block.childNodes.length > 1) block.firstChild.remove();
      else block.remove();
      tally(kept, text, -1);
      tally(gone, text);
    }
    cut.hidden = gone.characters === 0;
    if (!cut.hidden)
      cut.textContent = `The first ${count(gone.characters)} characters (${count(gone.lines)} lines) are not shown here; they are in the job's result.`;
  }

  function draw() {
    cancelAnimationFrame(frame);
    frame = 0;
    const atEnd = box.scrollHeight - box.scrollTop - box.clientHeight < 24;
    for (const { stream, text } of waiting) for (const piece of pieces(plain(text))) append(stream, piece);
    waiting = [];
    held = 0;
    trim();
    if (atEnd) box.scrollTop = box.scrollHeight;
  }

  function clear() {
    cancelAnimationFrame(frame);
    frame = 0;
    waiting = [];
    held = 0;
    kept = { characters: 0, lines: 0 };
    gone = { characters: 0, lines: 0 };
    carriage = {};
    box.replaceChildren();
    cut.hidden = true;
  }

  return {
    element,
    clear,
    draw,
    get empty() {
      return kept.characters + gone.characters + held === 0;
    },
    add(stream, text) {
      // The two halves of a CR LF may come in two events.
      text = (carriage[stream] || "") + text;
      carriage[stream] = text.endsWith("\r") ? "\r" : "";
      if (carriage[stream]) text = text.slice(0, -1);
      if (!text) return;
      const last = waiting.at(-1);
      if (last?.stream === stream) last.text += text;
      else waiting.push({ stream, text });
      held += text.length;
      // A tab that nobody looks at has no frames.
      if (held > KEPT_CHARACTERS) draw();
      else frame ||= requestAnimationFrame(draw);
    },
    startOver() {
      clear();
      anew.hidden = false;
    },
  };
}
