// job.js -- one job: its state, its output as it comes, and what it left.
import * as api from "./api.js";
import { age, count, h, show } from "./dom.js";
import { isOpen } from "./jobs.js";
import { about, askedLimits, code, displayed, error, head, limits, raw, times, warnings } from "./jobparts.js";
import { outputBox } from "./output.js";

// What was run from this page: the gateway gives back results, not the code.
const sources = new Map();
export const knownSource = (id) => sources.get(id);
export const forgetSources = () => sources.clear();
export function rememberSource(id, source) {
  sources.set(id, source);
  if (sources.size > 50) sources.delete(sources.keys().next().value);
}

// The text of a job that lies in the dead list, or null.
async function deadText(id, job) {
  if (job.status !== "dead" && job.verdict !== "rejected") return null;
  try {
    return (await api.getDeadOne(id)).text;
  } catch {
    return null; // dropped, or retried by somebody meanwhile
  }
}

function sourceOf(id, job, text) {
  if (job.code) return { code: job.code };
  if (sources.has(id) || text === null) return sources.get(id);
  try {
    return { code: JSON.parse(text.slice(text.indexOf("{"))).code || text };
  } catch {
    return { code: text };
  }
}

// ---- the whole ------------------------------------------------------------

// Shows job `id` in root until stop(). say(text) tells a screen reader; level is
// that of the heading.
export function jobView(root, id, { say, level = "h1" }) {
  const stop = new AbortController();
  const parts = Object.fromEntries(
    ["top", "trouble", "results", "output", "rest"].map((name) => [name, h("div", { class: `part ${name}` })]),
  );
  const output = outputBox();
  let job = null,
    templates = [],
    ended = false,
    broken = false, // the stream is, for now
    lies = false;

  root.replaceChildren(...Object.values(parts));

  // That it has ended is said with its output.
  function drawTop() {
    if (job && (ended || broken || isOpen(job.status)))
      show(
        parts.top,
        head(id, job, level, { known: sources.has(id) || Boolean(job.code), lies }),
        broken
          ? h("p", { class: "banner warn", "data-key": "away" }, "The stream broke off; trying again …")
          : null,
        isOpen(job.status)
          ? h(
              "p",
              { class: "dim", "data-key": "since" },
              job.started_at && job.status === "running"
                ? `Runs on ${job.worker || "a worker"} for ${age(Date.now() / 1000 - job.started_at)}.`
                : "Waits for a worker.",
            )
          : null,
      );
  }

  function drawRest(facts, limitsCard, ...more) {
    show(
      parts.rest,
      h("div", { class: "columns even", "data-key": "facts" }, h("div", {}, facts), limitsCard),
      ...more,
    );
  }

  function drawLive() {
    const mine = sources.get(id);
    const template = templates.find((one) => one.id === (job.template_used || mine?.template));
    drawTop();
    drawRest(about(job), askedLimits(mine, template), code(sourceOf(id, job, null)));
  }

  function logs() {
    for (const stream of ["stdout", "stderr"]) output.add(stream, (job.logs?.[stream] || []).join(""));
  }

  async function drawEnd() {
    ended = true;
    broken = false;
    if (output.empty || partial) {
      output.clear();
      logs();
    }
    parts.output.hidden = output.empty;
    output.draw(); // before the end is said
    drawTop();
    const text = await deadText(id, job);
    if (stop.signal.aborted) return;
    lies = text !== null;
    drawTop();
    parts.trouble.replaceChildren(...[error(job), warnings(job)].filter(Boolean));
    parts.results.replaceChildren(...displayed(job).filter(Boolean));
    drawRest([times(job), about(job)], limits(job), code(sourceOf(id, job, text)), raw(job));
  }

  function missing(fault) {
    show(
      parts.top,
      h(
        "div",
        { class: "jobhead" },
        h(level, {}, fault.status === 404 ? "No such job" : "This job cannot be shown"),
      ),
      h(
        "p",
        {},
        fault.status === 404
          ? [
              "There is no job ",
              h("code", {}, id),
              ": its id is wrong, its result has expired, or it was pushed to Redis directly and no worker has taken it yet.",
            ]
          : fault.message,
      ),
    );
  }

  const printed = { stdout: 0, stderr: 0 }; // bytes of this try that were told of
  let tries = 0,
    partial = false; // not all of it came as events

  function startOver() {
    if (!printed.stdout && !printed.stderr) return;
    printed.stdout = printed.stderr = 0;
    partial = false;
    output.startOver();
    say(`Job ${id} started over`);
  }

  function print(stream, { data, offset }) {
    const text = String(data ?? "");
    if (offset === 0 && printed[stream]) startOver(); // its `running` was trimmed
    if (offset > printed[stream]) {
      partial = true;
      output.add("gap", `… ${count(offset - printed[stream])} bytes are not shown before the job ends …\n`);
    }
    printed[stream] = offset + new TextEncoder().encode(text).length;
    output.add(stream, text);
    parts.output.hidden = false;
  }

  function take(type, data) {
    if (type === "stdout" || type === "stderr") {
      print(type, data);
    } else if (type === "state") {
      if (data.status === "running" && ++tries > 1) startOver();
      refresh();
    }
  }

  function away(gone) {
    broken = gone;
    drawTop();
  }

  async function refresh() {
    try {
      const fresh = await api.getJob(id, stop.signal);
      if (stop.signal.aborted || ended) return;
      const before = job?.status;
      job = fresh;
      if (!isOpen(job.status)) return;
      if (before !== job.status) say(`Job ${id} is ${job.status}`);
      drawLive();
    } catch {
      /* the stream will tell */
    }
  }

  async function learnTemplates() {
    try {
      templates = await api.getTemplates();
    } catch {
      return; // what is known is shown without them
    }
    if (!ended && !stop.signal.aborted) drawLive();
  }

  // A state that is not there yet, or not reached for now, is asked for again.
  async function first() {
    for (let wait = 1000; ; wait = Math.min(wait * 2, 8000)) {
      try {
        return await api.getJob(id, stop.signal);
      } catch (fault) {
        if (stop.signal.aborted || (fault.status >= 400 && fault.status < 500 && fault.status !== 429))
          throw fault;
        await api.pause(wait, stop.signal);
      }
    }
  }

  async function run() {
    job = await first();
    parts.output.replaceChildren(
      h("section", { class: "card", "aria-label": "Output of the job" }, h("h2", {}, "Output"), output.element),
    );
    parts.output.hidden = true;
    const wasOpen = isOpen(job.status);
    if (wasOpen) {
      drawLive();
      learnTemplates();
    }
    await api.follow(id, { take, away, signal: stop.signal });
    if (stop.signal.aborted) return;
    job = await first();
    if (wasOpen) say(`Job ${id} has ended: ${String(job.verdict || job.status).replaceAll("_", " ")}`);
    await drawEnd();
  }

  const ticker = setInterval(() => {
    if (!ended) drawTop();
  }, 1000);
  const onChange = (event) => {
    if (event.detail === id) refresh();
  };
  document.addEventListener("capibox:changed", onChange);
  stop.signal.addEventListener("abort", () => {
    clearInterval(ticker);
    document.removeEventListener("capibox:changed", onChange);
  });
  const done = run().catch((fault) => {
    if (!stop.signal.aborted) missing(fault);
  });
  return { done, stop: () => stop.abort() };
}

export function jobPage(root, query, { say, id }) {
  let view = jobView(root, id, { say });
  // A dead job that was retried lives again, one that was dropped is gone.
  const again = (event) => {
    if (event.detail !== id) return;
    view.stop();
    view = jobView(root, id, { say });
  };
  document.addEventListener("capibox:moved", again);
  return {
    title: `Job ${id}`,
    stop() {
      view.stop();
      document.removeEventListener("capibox:moved", again);
    },
  };
}
