// app.js -- which page is shown, asking the gateway again and again, and what
// the buttons do.
import * as api from "./api.js";
import { deadJobPage, deadPage } from "./dead.js";
import { count, h } from "./dom.js";
import { forgetSources, jobPage, knownSource } from "./job.js";
import { jobsPage } from "./jobs.js";
import { forgetDepths, noteDepths, overviewPage } from "./overview.js";
import { save } from "./results.js";
import { forgetDraft, runPage } from "./run.js";

const CALM_MS = 2000;
const HIDDEN_MS = 20000;
const WORST_MS = 15000;

const at = (id) => document.getElementById(id);
const view = at("view");

// ---- telling ----------------------------------------------------------------

let quiet = 0;
function say(text, bad) {
  at("say").textContent = text;
  at("say").classList.toggle("bad", Boolean(bad));
  clearTimeout(quiet);
  quiet = setTimeout(() => {
    at("say").textContent = "";
  }, 6000);
}

function linkState(kind, text) {
  const line = at("link");
  if (line.textContent !== text) line.textContent = text;
  line.className = `linkstate ${kind}`;
}

function banner(...content) {
  const box = at("banner");
  const text = content.map((part) => part.textContent ?? part).join("");
  box.hidden = content.length === 0;
  if (box.textContent !== text) box.replaceChildren(...content);
}

// ---- dialogs ------------------------------------------------------------------

function opened(dialog) {
  return new Promise((resolve) => {
    dialog.returnValue = "cancel"; // Escape
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "ok"), { once: true });
    dialog.showModal();
  });
}

api.setAsker(async (wrong) => {
  at("key-wrong").hidden = !wrong;
  at("key").value = "";
  const given = await opened(at("key-dialog"));
  const key = at("key").value.trim();
  at("key").value = "";
  return given && key ? key : null;
});

function sure(question, yes) {
  at("sure-title").textContent = question;
  at("sure-ok").textContent = yes;
  return opened(at("sure-dialog"));
}

// ---- pages ----------------------------------------------------------------

let page = null;
let stats = null;

function route() {
  const [path, words] = location.hash.replace(/^#\/?/, "").split("?");
  const [name, raw] = path.split("/");
  let id = "";
  try {
    id = decodeURIComponent(raw || "");
  } catch {
    /* no id then */
  }
  return { name, id, query: new URLSearchParams(words || "") };
}

function make({ name, id, query }) {
  const more = { say, id, source: knownSource };
  if (name === "jobs" && id) return jobPage(view, query, more);
  if (name === "jobs") return jobsPage(view, query);
  if (name === "dead" && id) return deadJobPage(view, query, more);
  if (name === "dead") return deadPage(view, query);
  if (name === "run") return runPage(view, query, more);
  return overviewPage(view);
}

function go(event) {
  const where = route();
  page?.stop?.();
  view.replaceChildren(h("p", { class: "empty" }, "Loading …"));
  page = make(where);
  page.shown = false;
  document.title = `${page.title} – capibox`;
  for (const link of document.querySelectorAll("[data-page]"))
    link.toggleAttribute("data-here", link.dataset.page === where.name);
  for (const link of document.querySelectorAll("[data-page]"))
    if (link.dataset.page === where.name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  if (event) {
    view.focus({ preventScroll: true });
    window.scrollTo(0, 0);
  }
  lookNow();
}

function showDead(dead) {
  at("dead-count").textContent = dead ? count(dead) : "";
  at("dead-count").hidden = !dead;
}

function draw() {
  showDead(stats.dead);
  if (page.render) page.render(stats);
  page.shown = true;
}

// ---- asking again and again -------------------------------------------------

let timer = 0,
  looking = false,
  again = false,
  failures = 0,
  away = false;

async function fetchAll() {
  const mine = page;
  const [fresh] = await Promise.all([
    api.getStats(),
    mine.load && !(mine.once && mine.shown) ? mine.load() : null,
  ]);
  if (mine !== page) {
    again = true;
    return;
  }
  stats = fresh;
  noteDepths(stats);
  draw();
}

const REASONS = {
  0: "The gateway does not answer",
  401: "A key is needed",
  429: "The gateway says: too many requests",
  503: "The gateway cannot reach Redis",
};

function tellFailure(fault, waitMs) {
  if (!(fault instanceof api.Failure)) {
    banner(`This page has a fault: ${fault.message}`);
    throw fault;
  }
  const reason = REASONS[fault.status] || `The gateway answers ${fault.status}`;
  const since = stats ? ` Figures are of ${new Date(stats.now * 1000).toTimeString().slice(0, 8)}.` : "";
  document.body.classList.add("stale");
  linkState("crit", fault.status === 401 ? "no key" : "disconnected");
  if (fault.status === 401 && !page.shown)
    view.replaceChildren(h("p", { class: "empty" }, "Nothing is shown without a key."));
  if (fault.status === 401)
    banner("A key is needed. ", h("button", { type: "button", "data-act": "key" }, "Enter key"));
  else
    banner(
      `${reason}${fault.status === 503 && fault.message && !/reached/.test(fault.message) ? `: ${fault.message}` : ""}. Trying again ${waitMs < 2500 ? "in a moment" : `every ${Math.round(waitMs / 1000)} s`}.${since}`,
    );
  away = true;
}

function tellSuccess() {
  document.body.classList.remove("stale");
  linkState("good", "live");
  banner();
  if (away) say("Connected again");
  away = false;
  failures = 0;
}

async function look() {
  if (looking) {
    again = true;
    return;
  }
  looking = true;
  clearTimeout(timer);
  let wait = document.hidden ? HIDDEN_MS : CALM_MS;
  try {
    await fetchAll();
    tellSuccess();
  } catch (fault) {
    failures++;
    wait = Math.max(wait, Math.min(1000 * 1.5 ** failures, WORST_MS), (fault.retryAfter || 0) * 1000);
    tellFailure(fault, wait);
  } finally {
    looking = false;
    at("forget").hidden = !api.hasKey(); // a key that opens nothing, too
    timer = setTimeout(look, again ? 0 : wait);
    again = false;
  }
}

function lookNow() {
  failures = 0;
  look();
}

document.addEventListener("visibilitychange", () => {
  if (!document.hidden) lookNow();
});
window.addEventListener("online", lookNow);
window.addEventListener("resize", () => {
  if (stats && page.shown && page.render) page.render(stats);
});
window.addEventListener("hashchange", go);

// ---- buttons ----------------------------------------------------------------

const tell = (name, id) => document.dispatchEvent(new CustomEvent(`capibox:${name}`, { detail: id }));

async function many(ids, what, word) {
  let done = 0;
  for (const id of ids) {
    try {
      await what(id);
      done++;
    } catch (fault) {
      if (fault.status === 0 || fault.status === 503) throw fault;
    }
  }
  say(`${done} of ${ids.length} ${word}`);
}

const actions = {
  async cancel(id) {
    const { status } = await api.cancelJob(id);
    say(`Job ${id}: ${status}`);
    tell("changed", id);
  },
  async retry(id) {
    await api.retryDead(id);
    say(`Job ${id} is queued again`);
    if (route().name === "dead" && route().id) location.hash = `#/jobs/${encodeURIComponent(id)}`;
    tell("moved", id);
  },
  async drop(id) {
    if (!(await sure(`Drop job ${id} for good?`, "Drop"))) return;
    await api.dropDead(id);
    say(`Job ${id} is dropped`);
    tell("moved", id);
    if (route().name === "dead" && route().id) location.hash = "#/dead";
  },
  async "retry-many"(ids) {
    const list = ids.split(" ");
    if (await sure(`Retry these ${list.length} jobs?`, "Retry"))
      await many(list, api.retryDead, "queued again");
  },
  async "drop-many"(ids) {
    const list = ids.split(" ");
    if (await sure(`Drop these ${list.length} jobs for good?`, "Drop"))
      await many(list, api.dropDead, "dropped");
  },
  async key() {
    api.wantKey();
    go();
  },
};

async function perform(action, id, button) {
  button.disabled = true;
  try {
    await actions[action](id);
  } catch (fault) {
    say(fault.message, true);
  } finally {
    button.disabled = false;
    lookNow();
  }
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-act]");
  if (button?.dataset.act === "save") save(button);
  else if (button) perform(button.dataset.act, button.dataset.id, button);
  if (event.target.closest("[data-skip]")) {
    event.preventDefault(); // the hash is the page's
    view.focus();
  }
});
document.addEventListener("submit", (event) => {
  if (event.target.dataset.act !== "find") return;
  event.preventDefault();
  const id = event.target.elements.id.value.trim();
  if (id) location.hash = `#/jobs/${encodeURIComponent(id)}`;
});
// With the key goes all that it opened, from screen and memory.
at("forget").addEventListener("click", (event) => {
  api.forgetKey();
  go(event);
  forgetSources();
  forgetDraft();
  forgetDepths();
  stats = null;
  showDead(0);
  say("The key is forgotten");
});

go();
