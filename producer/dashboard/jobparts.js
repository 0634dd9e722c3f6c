// jobparts.js -- what there is to show of one job, piece by piece.
import { act, badge, bytes, card, count, facts, h, moment, plain, seconds, svg, table } from "./dom.js";
import { isOpen } from "./jobs.js";
import { block, fileTable, resultItem } from "./results.js";

// known: its code is. lies: in the dead list.
export function head(id, job, level, { known, lies }) {
  const word = isOpen(job.status) ? job.status : job.verdict || job.status;
  return h(
    "div",
    { class: "jobhead", "data-key": "head" },
    h(level, { class: "id" }, id),
    badge(word),
    job.cached && h("span", { class: "badge idle" }, "from the cache"),
    h(
      "span",
      { class: "row" },
      isOpen(job.status) && act("cancel", id, "Cancel", `Cancel job ${id}`, { class: "danger" }),
      lies && [
        act("retry", id, "Retry", `Retry job ${id}`),
        act("drop", id, "Drop", `Drop dead job ${id}`, { class: "danger" }),
      ],
      level === "h2" && h("a", { href: `#/jobs/${encodeURIComponent(id)}` }, "This job's page"),
      known && level === "h1" && h("a", { href: `#/run?again=${encodeURIComponent(id)}` }, "Edit and run again"),
    ),
  );
}

export function error(job) {
  const detail = job.error_detail;
  if (!job.error && !detail) return null;
  return h(
    "section",
    { class: "card error", "aria-label": "Error", "data-key": "error" },
    h("h2", {}, "Error"),
    job.error && h("p", {}, plain(job.error)),
    detail &&
      detail.name &&
      !(job.error || "").includes(detail.name) &&
      h("p", {}, h("strong", {}, plain(detail.name)), detail.value ? `: ${plain(detail.value)}` : ""),
    detail?.traceback &&
      block(Array.isArray(detail.traceback) ? detail.traceback.join("\n") : detail.traceback, "Traceback"),
  );
}

const STEPS = ["queue", "create", "run", "collect", "destroy"];
export function times(job) {
  const timings = job.timings || {};
  const total = STEPS.reduce((all, step) => all + (timings[step] || 0), 0);
  let x = 0;
  const parts = STEPS.map((step, i) => {
    const width = total ? (100 * (timings[step] || 0)) / total : 0;
    const part = svg("rect", { class: `c${i}`, x: x.toFixed(2), y: 0, width: width.toFixed(2), height: 10 });
    x += width;
    return part;
  });
  return card(
    "Times",
    total > 0 &&
      svg(
        "svg",
        {
          class: "split",
          role: "img",
          viewBox: "0 0 100 10",
          preserveAspectRatio: "none",
          "aria-label": STEPS.map((step) => `${step} ${seconds(timings[step])}`).join(", "),
        },
        parts,
      ),
    h(
      "ul",
      { class: "legend" },
      STEPS.filter((step) => timings[step] !== undefined).map((step) =>
        h(
          "li",
          {},
          h("span", { class: `swatch c${STEPS.indexOf(step)}`, "aria-hidden": "true" }),
          `${step} ${seconds(timings[step])}`,
        ),
      ),
    ),
    facts([
      ["Execution", seconds(job.execution_time)],
      ["With clean-up", seconds(job.processing_time)],
      ["CPU", job.usage && job.usage.cpu_seconds != null && seconds(job.usage.cpu_seconds)],
    ]),
  );
}

const megabytes = (n) => (Number.isFinite(n) ? `${count(Math.round(n * 10) / 10)} MB` : null);
export function limits(job) {
  const config = job.sandbox_info?.config || {},
    usage = job.usage || {},
    held = Object.entries(job.enforced || {}),
    enforced = Object.fromEntries(held.filter(([, how]) => how !== "no: nothing was run"));
  const set = {
    timeout: config.timeout && `${config.timeout} s`,
    memory: megabytes(config.memory_limit_mb),
    cpu: config.cpu_limit_percent && `${config.cpu_limit_percent} %`,
    pids: config.pids_limit && count(config.pids_limit),
    disk: megabytes(config.disk_limit_mb),
    network: config.network === undefined ? null : config.network ? "allowed" : "none",
  };
  const used = {
    timeout: seconds(job.execution_time),
    memory: megabytes(usage.peak_memory_mb),
    cpu: usage.cpu_seconds == null ? null : seconds(usage.cpu_seconds),
    pids: usage.peak_processes && count(usage.peak_processes),
  };
  const names = [...new Set([...Object.keys(set), ...Object.keys(enforced)])].filter(
    (name) => enforced[name] || set[name],
  );
  const how = (text) =>
    /^no\b/i.test(text)
      ? h("span", { class: "warntext anywhere" }, `⚠ ${plain(text)}`)
      : h("span", { class: "anywhere" }, plain(text));
  return card(
    "Limits and what held them",
    table(
      "Limits",
      ["Limit", "Set#", "-Used#", "Enforced by"],
      names.map((name) => ({
        key: name,
        cells: [name, set[name] || "–", used[name] || "–", enforced[name] ? how(String(enforced[name])) : "–"],
      })),
      "Nothing was run, so nothing had to be enforced.",
    ),
  );
}

// Before the end: what this page asked for, or else what the template gives.
// The gateway tells of a job's own limits only once it has ended.
export function askedLimits(source, template) {
  const config = { ...template?.config, ...source?.requirements };
  const unknown = template
    ? "The template's. What the job itself asked for shows when it has ended."
    : "Not known before a worker has taken the job.";
  return card(
    "Limits",
    facts([
      ["Timeout", config.timeout && `${config.timeout} s`],
      ["Memory", megabytes(config.memory_limit_mb)],
      ["CPU", config.cpu_limit_percent && `${config.cpu_limit_percent} %`],
    ]),
    !source && h("p", { class: "note" }, unknown),
  );
}

export function about(job) {
  const usage = job.usage || {};
  return card(
    "About",
    facts([
      ["Template", job.template_used],
      ["Language", job.language],
      ["Task type", job.task_type],
      ["Backend", job.backend],
      ["Worker", job.worker && h("span", { class: "id" }, job.worker)],
      ["Sandbox", job.sandbox_id && h("span", { class: "id" }, job.sandbox_id)],
      ["Queue", job.queue],
      ["Batch", job.batch_id],
      ["Attempt", job.attempt],
      ["Queued", job.enqueued_at && moment(job.enqueued_at)],
      ["Started", job.started_at && moment(job.started_at)],
      [
        "Ended",
        job.timestamp ? moment(Date.parse(job.timestamp) / 1000) : job.finished_at && moment(job.finished_at),
      ],
      ["Exit code", job.exit_code ?? null],
      ["Signal", job.signal ?? null],
      [
        "Printed",
        usage.stdout_bytes === undefined
          ? null
          : `${bytes(usage.stdout_bytes)} out, ${bytes(usage.stderr_bytes)} err`,
      ],
      ["Dropped output", usage.dropped_bytes ? bytes(usage.dropped_bytes) : null],
    ]),
  );
}

export function warnings(job) {
  return job.warnings?.length
    ? h(
        "section",
        { class: "card warned", "aria-label": "Warnings" },
        h("h2", {}, "Warnings"),
        h(
          "ul",
          {},
          job.warnings.map((text) => h("li", {}, plain(text))),
        ),
      )
    : null;
}

export function displayed(job) {
  const items = (job.results || []).map((item, i) => resultItem(item, i + 1)).filter(Boolean);
  return [
    items.length ? card("Results", items) : null,
    job.files?.length ? card("Files", fileTable(job.files)) : null,
  ];
}

export const code = (source) =>
  card(
    "Code",
    source
      ? block(source.code, "Code")
      : h(
          "p",
          { class: "empty" },
          "Not kept: the code is kept of jobs that came over HTTP (up to 16 KiB), and of dead ones.",
        ),
  );

export const raw = (job) =>
  h(
    "details",
    {},
    h("summary", {}, "Result as JSON"),
    block(
      JSON.stringify(
        job,
        (name, value) =>
          typeof value === "string" && value.length > 2000
            ? `${value.slice(0, 200)}… (${value.length} characters)`
            : value,
        2,
      ),
      "Result as JSON",
    ),
  );
