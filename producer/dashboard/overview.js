// overview.js -- the first page: what is broken, the last hour, queues, workers.
import * as api from "./api.js";
import { chart } from "./charts.js";
import { age, badge, card, count, h, jobLink, moment, seconds, show, table } from "./dom.js";
import { jobTable } from "./jobs.js";
import { troubleList } from "./trouble.js";

const HOUR = 3600;
const depths = new Map(); // queue -> [[unix, depth]…], as this page saw them
let watchedSince = 0;

export function forgetDepths() {
  depths.clear();
  watchedSince = 0;
}

// The gateway keeps no history of depths; this page remembers what it was told.
export function noteDepths({ queues, now }) {
  watchedSince ||= now;
  for (const { name, depth } of queues) {
    const seen = depths.get(name) || [];
    seen.push([now, depth]);
    while (seen.length && seen[0][0] < now - HOUR) seen.shift();
    depths.set(name, seen);
  }
}

const tile = (name, value, under, look) =>
  h(
    "div",
    { class: `tile ${look || ""}`, "data-key": name },
    h("dt", {}, name),
    h("dd", {}, h("strong", {}, value), h("span", {}, under)),
  );

const sum = (list, field) => list.reduce((all, one) => all + (one[field] || 0), 0);

function tiles(stats) {
  const hour = stats.per_minute.filter((m) => m.minute > stats.now - HOUR - 60);
  const ended = sum(hour, "total_executions"),
    good = sum(hour, "successful_executions");
  const before = Math.floor(stats.now / 60) * 60 - 60;
  const lately = sum(
    hour.filter((m) => m.minute === before),
    "total_executions",
  );
  const latest = hour.filter((m) => m.latency.p95 !== null).at(-1);
  const waiting = sum(stats.queues, "depth");
  const oldest = Math.max(0, ...stats.queues.map((q) => q.oldest_age || 0));
  const alive = stats.workers.filter((w) => w.alive).length;
  const rate = ended ? (100 * good) / ended : null;
  return h(
    "dl",
    { class: "tiles", "data-key": "tiles" },
    tile("Throughput", `${count(lately)}/min`, `${count(ended)} in the last hour`),
    tile(
      "Success",
      rate === null ? "–" : `${rate.toFixed(1)} %`,
      ended ? `${count(ended - good)} failed in the last hour` : "nothing ran in the last hour",
      rate !== null && rate < 50 ? "warn" : "",
    ),
    tile(
      "Latency p95",
      latest ? seconds(latest.latency.p95) : "–",
      latest
        ? `p50 ${seconds(latest.latency.p50)} at ${new Date(latest.minute * 1000).toTimeString().slice(0, 5)}`
        : "nothing ran in the last hour",
    ),
    tile(
      "Sandboxes",
      `${count(stats.active_sandboxes)} / ${count(stats.max_concurrent_sandboxes)}`,
      alive === 1 ? "on 1 worker" : `on ${count(alive)} workers`,
      stats.max_concurrent_sandboxes === 0 ? "crit" : "",
    ),
    tile(
      "Waiting",
      count(waiting),
      waiting
        ? oldest
          ? `the oldest for ${age(oldest)}`
          : "for how long is not known"
        : `${count(stats.delayed)} delayed`,
    ),
    tile("Dead", count(stats.dead), stats.dead ? "to retry or drop" : "none", stats.dead ? "warn" : ""),
  );
}

function charts(stats, width) {
  const to = stats.now,
    from = to - HOUR;
  const minutes = stats.per_minute.filter((m) => m.minute >= from);
  const of = (pick) => minutes.map((m) => [m.minute + 30, pick(m)]);
  const ended = sum(minutes, "total_executions"),
    good = sum(minutes, "successful_executions");
  const slow = Math.max(0, ...minutes.map((m) => m.latency.p95 || 0));
  const common = { width, from, to };
  const lines = [...depths].map(([name, points], i) => ({ name, points, look: `c${i % 5}` }));
  return [
    chart({
      ...common,
      id: "rate",
      title: "Jobs per minute",
      kind: "bars",
      format: count,
      about: `Last hour: ${count(good)} succeeded, ${count(ended - good)} failed.`,
      series: [
        { name: "succeeded", look: "good", points: of((m) => m.successful_executions || 0) },
        { name: "failed", look: "bad", points: of((m) => m.failed_executions || 0) },
      ],
    }),
    chart({
      ...common,
      id: "latency",
      title: "Execution time",
      kind: "lines",
      log: true,
      dots: true,
      format: seconds,
      ticks: (s) => (s < 1 ? `${s * 1000} ms` : `${s} s`),
      about: `Percentiles of each minute, on a logarithmic scale. The highest p95 of the hour is ${seconds(slow)}.`,
      series: ["p50", "p95", "p99"].map((p, i) => ({
        name: p,
        look: `c${i}`,
        points: of((m) => m.latency[p]),
      })),
    }),
    chart({
      ...common,
      id: "success",
      title: "Success rate",
      kind: "lines",
      dots: true,
      most: 100,
      format: (v) => `${Math.round(v)} %`,
      about: ended
        ? `${((100 * good) / ended).toFixed(1)} per cent over the last hour.`
        : "Nothing ran in the last hour.",
      series: [
        {
          name: "of what was started",
          look: "good",
          points: of((m) => (m.total_executions ? m.success_rate : null)),
        },
      ],
    }),
    chart({
      ...common,
      from: Math.max(from, Math.min(watchedSince, to - 300)),
      id: "depth",
      title: "Queue depth",
      kind: "lines",
      format: count,
      gap: 60,
      dots: lines.every(({ points }) => points.length < 3),
      about: stats.queues.map((q) => `${q.name}: ${count(q.depth)} waiting`).join(", "),
      note: h("span", {}, "As seen by this page since ", moment(watchedSince), "."),
      series: lines,
    }),
  ];
}

const queues = (stats) =>
  card(
    "Queues",
    table(
      "Queues",
      ["Queue", "Waiting#", "Oldest#", "Workers#"],
      [
        ...stats.queues.map((q) => ({
          key: q.name,
          cells: [
            q.name,
            count(q.depth),
            q.oldest_age === null ? "–" : age(q.oldest_age),
            q.served_by === 0 && q.depth ? h("span", { class: "badge crit" }, "none") : count(q.served_by),
          ],
        })),
        { key: "-delayed", cells: [h("em", {}, "delayed"), count(stats.delayed), "–", "–"] },
      ],
      "No queue.",
    ),
  );

const running = (run, now) =>
  h(
    "li",
    { "data-key": run.job_id },
    jobLink(run.job_id),
    " ",
    h(
      "span",
      { class: "dim" },
      [run.template_used, run.started_at ? age(now - run.started_at) : ""].filter(Boolean).join(" · "),
    ),
  );

function workers(stats) {
  return card(
    "Workers",
    table(
      "Workers",
      ["Worker", "State", "Busy#", "-Heard of#", "-Up#", "Runs"],
      stats.workers.map((w) => ({
        key: w.id,
        cells: [
          [
            h("span", { class: "id", title: w.id }, w.id),
            h(
              "span",
              { class: "dim line" },
              [w.host, w.pid && `pid ${w.pid}`, w.backend].filter(Boolean).join(" · "),
            ),
          ],
          w.alive
            ? h(
                "span",
                { class: `badge ${w.state && w.state !== "running" ? "wait" : "good"}` },
                h("span", { "aria-hidden": "true" }, w.state && w.state !== "running" ? "…" : "✓"),
                w.state || "alive",
              )
            : badge("lost"),
          [`${count(w.active)} / ${count(w.concurrency)}`],
          w.heartbeat ? age(stats.now - w.heartbeat) : "–",
          w.started_at ? age(stats.now - w.started_at) : "–",
          w.running.length
            ? h(
                "ul",
                { class: "plain" },
                w.running.slice(0, 8).map((run) => running(run, stats.now)),
                w.running.length > 8 && h("li", {}, `and ${w.running.length - 8} more`),
              )
            : h("span", { class: "dim" }, "idle"),
        ],
      })),
      "No worker has registered. Start one with bin/capibox-worker.",
    ),
  );
}

const share = (n, all) => (all ? `${((100 * n) / all).toFixed(1)} %` : "–");
function verdicts(stats) {
  const all = Object.entries(stats.verdicts)
    .filter(([, n]) => n)
    .sort((a, b) => b[1] - a[1]);
  const total = all.reduce((sumSoFar, [, n]) => sumSoFar + n, 0);
  return card(
    "Verdicts since the beginning",
    table(
      "Verdicts",
      ["Verdict", "Jobs#", "Share#"],
      all.map(([name, n]) => ({ key: name, cells: [badge(name), count(n), share(n, total)] })),
      "No job has ended yet.",
    ),
  );
}

const templates = (stats) =>
  card(
    "Templates since the beginning",
    table(
      "Templates",
      ["Template", "Jobs#", "Success#", "p95#"],
      Object.entries(stats.per_template).map(([name, t]) => ({
        key: name,
        cells: [
          name,
          count(t.total_executions || 0),
          t.total_executions ? `${t.success_rate.toFixed(1)} %` : "–",
          seconds(t.latency.p95),
        ],
      })),
      "No job has ended yet.",
    ),
  );

export function overviewPage(root) {
  let jobs = [];
  return {
    title: "Overview",
    load: async () => {
      jobs = (await api.getJobs(12)).jobs;
    },
    render(stats) {
      const room = root.clientWidth;
      const width = Math.floor(room >= 860 ? (room - 16) / 2 : room) - 26;
      show(
        root,
        h("h1", { class: "unseen", "data-key": "h1" }, "Overview"),
        troubleList(stats),
        tiles(stats),
        h("div", { class: "charts", "data-key": "charts" }, charts(stats, Math.max(width, 240))),
        h("div", { class: "columns", "data-key": "columns" }, queues(stats), workers(stats)),
        h(
          "div",
          { "data-key": "recent" },
          card(
            "Recent jobs",
            jobTable(jobs, stats.now),
            h("p", { class: "more" }, h("a", { href: "#/jobs" }, "All recent jobs")),
          ),
        ),
        h("div", { class: "columns even", "data-key": "more" }, verdicts(stats), templates(stats)),
      );
    },
  };
}
