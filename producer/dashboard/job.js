// job.js -- one job: its state, its output as it comes, and what it left.
import * as api from "./api.js";
import { act, age, badge, bytes, card, count, facts, h, moment, plain, seconds, show, svg, table } from "./dom.js";
import { isOpen } from "./jobs.js";
import { outputBox } from "./output.js";
import { block, fileTable, resultItem } from "./results.js";

// What was run from this page: the gateway gives back results, not the code.
const sources = new Map();
export const knownSource = (id) => sources.get(id);
export function rememberSource(id, source) {
  sources.set(id, source);
  if (sources.size > 50) sources.delete(sources.keys().next().value);
}

// ---- parts ----------------------------------------------------------------

function head(id, job, level) {
  const word = isOpen(job.status) ? job.status : job.verdict || job.status;
  return h("div", { class: "jobhead", "data-key": "head" },
    h(level, { class: "id" }, id), badge(word),
    job.cached && h("span", { class: "badge idle" }, "from the cache"),
    h("span", { class: "row" },
      isOpen(job.status) && act("cancel", id, "Cancel", `Cancel job ${id}`, { class: "danger" }),
      job.status === "dead" && [act("retry", id, "Retry", `Retry job ${id}`), act("drop", id, "Drop", `Drop dead job ${id}`, { class: "danger" })],
      level === "h2" && h("a", { href: `#/jobs/${encodeURIComponent(id)}` }, "This job's page"),
      sources.has(id) && level === "h1" && h("a", { href: `#/run?again=${encodeURIComponent(id)}` }, "Edit and run again")));
}

function error(job) {
  const detail = job.error_detail;
  if (!job.error && !detail) return null;
  return h("section", { class: "card error", "aria-label": "Error", "data-key": "error" }, h("h2", {}, "Error"),
    job.error && h("p", {}, plain(job.error)),
    detail && detail.name && !(job.error || "").includes(detail.name) && h("p", {}, h("strong", {}, plain(detail.name)), detail.value ? `: ${plain(detail.value)}` : ""),
    detail?.traceback && block(Array.isArray(detail.traceback) ? detail.traceback.join("\n") : detail.traceback, "Traceback"));
}

const STEPS = ["queue", "create", "run", "collect", "destroy"];
function times(job) {
  const timings = job.timings || {};
  const total = STEPS.reduce((all, step) => all + (timings[step] || 0), 0);
  let x = 0;
  const parts = STEPS.map((step, i) => {
    const width = total ? 100 * (timings[step] || 0) / total : 0;
    const part = svg("rect", { class: `c${i}`, x: x.toFixed(2), y: 0, width: width.toFixed(2), height: 10 });
    x += width;
    return part;
  });
  return card("Times", total > 0 && svg("svg", { class: "split", role: "img", viewBox: "0 0 100 10", preserveAspectRatio: "none",
    "aria-label": STEPS.map((step) => `${step} ${seconds(timings[step])}`).join(", ") }, parts),
  h("ul", { class: "legend" }, STEPS.filter((step) => timings[step] !== undefined).map((step) =>
    h("li", {}, h("span", { class: `swatch c${STEPS.indexOf(step)}`, "aria-hidden": "true" }), `${step} ${seconds(timings[step])}`))),
  facts([["Execution", seconds(job.execution_time)], ["To the destroyed sandbox", seconds(job.processing_time)],
    ["CPU", job.usage && seconds(job.usage.cpu_seconds)]]));
}

const megabytes = (n) => (Number.isFinite(n) ? `${count(Math.round(n * 10) / 10)} MB` : null);
function limits(job) {
  const config = job.sandbox_info?.config || {}, usage = job.usage || {}, enforced = job.enforced || {};
  const set = { timeout: config.timeout && `${config.timeout} s`, memory: megabytes(config.memory_limit_mb),
    cpu: config.cpu_limit_percent && `${config.cpu_limit_percent} % of a core`, pids: config.pids_limit && count(config.pids_limit),
    disk: megabytes(config.disk_limit_mb), network: config.network === undefined ? null : config.network ? "allowed" : "none" };
  const used = { timeout: seconds(job.execution_time), memory: megabytes(usage.peak_memory_mb), cpu: usage.cpu_seconds === undefined ? null : seconds(usage.cpu_seconds),
    pids: usage.peak_processes && count(usage.peak_processes) };
  const names = [...new Set([...Object.keys(set), ...Object.keys(enforced)])].filter((name) => enforced[name] || set[name]);
  const how = (text) => (/^no\b/i.test(text) ? h("span", { class: "warntext" }, `⚠ ${plain(text)}`) : plain(text));
  return card("Limits and what held them", table("Limits", ["Limit", "Set#", "-Used#", "Enforced by"], names.map((name) => ({ key: name,
    cells: [name, set[name] || "–", used[name] || "–", enforced[name] ? how(String(enforced[name])) : "–"] })), "Nothing was run, so nothing had to be enforced."));
}

function about(job) {
  const usage = job.usage || {};
  return card("About", facts([["Template", job.template_used], ["Language", job.language], ["Task type", job.task_type],
    ["Backend", job.backend], ["Worker", job.worker && h("span", { class: "id" }, job.worker)], ["Sandbox", job.sandbox_id && h("span", { class: "id" }, job.sandbox_id)],
    ["Queue", job.queue], ["Batch", job.batch_id], ["Attempt", job.attempt], ["Queued", job.enqueued_at && moment(job.enqueued_at)], ["Started", job.started_at && moment(job.started_at)],
    ["Ended", job.timestamp ? moment(Date.parse(job.timestamp) / 1000) : job.finished_at && moment(job.finished_at)],
    ["Exit code", job.exit_code ?? null], ["Signal", job.signal ?? null],
    ["Printed", usage.stdout_bytes === undefined ? null : `${bytes(usage.stdout_bytes)} out, ${bytes(usage.stderr_bytes)} err`],
    ["Dropped output", usage.dropped_bytes ? bytes(usage.dropped_bytes) : null]]));
}

function warnings(job) {
  return job.warnings?.length ? h("section", { class: "card warned", "aria-label": "Warnings" }, h("h2", {}, "Warnings"),
    h("ul", {}, job.warnings.map((text) => h("li", {}, plain(text))))) : null;
}

function displayed(job) {
  const items = (job.results || []).map((item, i) => resultItem(item, i + 1)).filter(Boolean);
  return [items.length ? card("Results", items) : null, job.files?.length ? card("Files", fileTable(job.files)) : null];
}

async function sourceOf(id, job) {
  if (job.code) return { code: job.code };
  if (sources.has(id)) return sources.get(id);
  if (job.status !== "dead" && job.verdict !== "rejected") return null;
  try {
    const { text } = await api.getDeadOne(id);
    try { return { code: JSON.parse(text.slice(text.indexOf("{"))).code || text }; } catch { return { code: text }; }
  } catch { return null; }
}

const code = (source) => card("Code", source ? block(source.code, "Code")
  : h("p", { class: "empty" }, "Not kept. The code is shown of jobs that were run from this page, and of dead ones."));

const raw = (job) => h("details", {}, h("summary", {}, "Result as JSON"), block(JSON.stringify(job, (name, value) =>
  (typeof value === "string" && value.length > 2000 ? `${value.slice(0, 200)}… (${value.length} characters)` : value), 2), "Result as JSON"));

// ---- the whole ------------------------------------------------------------

// Shows job `id` in root until stop(). say(text) tells a screen reader; level is
// that of the heading.
export function jobView(root, id, { say, level = "h1" }) {
  const stop = new AbortController();
  const parts = Object.fromEntries(["top", "trouble", "results", "output", "rest"].map((name) => [name, h("div", { class: `part ${name}` })]));
  const output = outputBox();
  let job = null, ended = false;

  root.replaceChildren(...Object.values(parts));

  function drawTop(away) {
    if (job) show(parts.top, head(id, job, level), away ? h("p", { class: "banner warn", "data-key": "away" }, "The stream broke off; trying again …") : null,
      isOpen(job.status) ? h("p", { class: "dim", "data-key": "since" }, job.started_at && job.status === "running"
        ? `Runs on ${job.worker || "a worker"} for ${age(Date.now() / 1000 - job.started_at)}.`
        : "Waits for a worker.") : null);
  }

  function drawLive() {
    drawTop(false);
    show(parts.rest, about(job));
  }

  function logs() {
    for (const stream of ["stdout", "stderr"]) output.add(stream, (job.logs?.[stream] || []).join(""));
  }

  async function drawEnd() {
    ended = true;
    drawTop(false);
    if (output.empty || output.partial) { output.clear(); logs(); }
    parts.output.hidden = output.empty;
    const source = await sourceOf(id, job);
    if (stop.signal.aborted) return;
    drawTop(false);
    parts.trouble.replaceChildren(...[error(job), warnings(job)].filter(Boolean));
    parts.results.replaceChildren(...displayed(job).filter(Boolean));
    parts.rest.replaceChildren(h("div", { class: "columns even" }, h("div", {}, times(job), about(job)), limits(job)), code(source), raw(job));
  }

  function missing(fault) {
    show(parts.top, h("div", { class: "jobhead" }, h(level, {}, fault.status === 404 ? "No such job" : "This job cannot be shown")),
      h("p", {}, fault.status === 404 ? ["There is no job ", h("code", {}, id), ": its id is wrong, its result has expired, or it was pushed to Redis directly and no worker has taken it yet."]
        : fault.message));
  }

  const text = (chunk) => (chunk === undefined || chunk === null ? "" : String(chunk));
  function take(type, data) {
    if (type === "stdout" || type === "stderr") {
      if (output.empty && data.offset > 0) output.partial = true;
      output.add(type, text(data.data));
      parts.output.hidden = false;
    } else if (type === "state") {
      refresh();
    }
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
    } catch { /* the stream will tell */ }
  }

  // A state that is not there yet, or not reached for now, is asked for again.
  async function first() {
    for (let wait = 1000; ; wait = Math.min(wait * 2, 8000)) {
      try {
        return await api.getJob(id, stop.signal);
      } catch (fault) {
        if (stop.signal.aborted || (fault.status >= 400 && fault.status < 500 && fault.status !== 429)) throw fault;
        await api.pause(wait, stop.signal);
      }
    }
  }

  async function run() {
    job = await first();
    parts.output.replaceChildren(h("section", { class: "card", "aria-label": "Output of the job" }, h("h2", {}, "Output"), output.element));
    parts.output.hidden = true;
    const wasOpen = isOpen(job.status);
    if (wasOpen) drawLive();
    await api.follow(id, { take, away: drawTop, signal: stop.signal });
    if (stop.signal.aborted) return;
    job = await first();
    if (wasOpen) say(`Job ${id} has ended: ${String(job.verdict || job.status).replaceAll("_", " ")}`);
    await drawEnd();
  }

  const ticker = setInterval(() => { if (job && !ended) drawTop(false); }, 1000);
  const onChange = (event) => { if (event.detail === id) refresh(); };
  document.addEventListener("capibox:changed", onChange);
  stop.signal.addEventListener("abort", () => { clearInterval(ticker); document.removeEventListener("capibox:changed", onChange); });
  const done = run().catch((fault) => { if (!stop.signal.aborted) missing(fault); });
  return { done, stop: () => stop.abort() };
}

export function jobPage(root, query, { say, id }) {
  let view = jobView(root, id, { say });
  // A dead job that is retried lives again.
  const again = (event) => {
    if (event.detail !== id) return;
    view.stop();
    view = jobView(root, id, { say });
  };
  document.addEventListener("capibox:retried", again);
  return { title: `Job ${id}`, stop() { view.stop(); document.removeEventListener("capibox:retried", again); } };
}
