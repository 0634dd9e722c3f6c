// trouble.js -- what is wrong, out of the stats: worst first, each with where
// to look.
import { age, count, h } from "./dom.js";

const OURS = ["backend_error", "setup_failed", "lost"]; // verdicts that are capibox's doing
const PATIENCE_S = 30;

const sum = (list, pick) => list.reduce((all, one) => all + (pick(one) || 0), 0);
const link = (href, text) => h("a", { href }, text);

function ofWorkers({ workers, queues, active_sandboxes: active, max_concurrent_sandboxes: most, now }) {
  const found = [];
  const waiting = sum(queues, (q) => q.depth);
  const alive = workers.filter((w) => w.alive);
  for (const w of workers.filter((one) => !one.alive))
    found.push({
      level: w.heartbeat ? "warn" : "info",
      key: `w-${w.id}`,
      text: [
        `Worker ${w.id} is silent`,
        w.heartbeat ? ` for ${age(now - w.heartbeat)}` : "",
        w.host ? ` (host ${w.host}, pid ${w.pid})` : "",
        ": its jobs go back to their queues.",
      ],
    });
  if (alive.length === 0)
    found.push({
      level: "crit",
      key: "none",
      text: `No worker is alive${waiting ? `: ${count(waiting)} jobs wait and nobody runs them` : ""}.`,
    });
  const oldest = Math.max(0, ...queues.map((q) => q.oldest_age || 0));
  if (alive.length && active >= most && oldest > PATIENCE_S)
    found.push({
      level: "warn",
      key: "busy",
      text: `All ${count(most)} sandboxes are busy; the oldest job has waited ${age(oldest)}.`,
    });
  return found;
}

function ofPause({ paused, queues }) {
  if (!paused) return [];
  const waiting = sum(queues, (q) => q.depth);
  return [
    {
      level: "warn",
      key: "paused",
      text: [
        `Paused by an operator: no worker takes a job${waiting ? `, and ${count(waiting)} ${waiting === 1 ? "waits" : "wait"}` : ""}. To go on: `,
        h("code", {}, "redis-cli HSET '{capibox}:conf' paused 0"),
        " (with the prefix in use).",
      ],
    },
  ];
}

const ofQueues = ({ queues }) =>
  queues
    .filter((q) => q.depth > 0 && q.served_by === 0)
    .map((q) => ({
      level: "crit",
      key: `q-${q.name}`,
      text: `Queue “${q.name}” holds ${count(q.depth)} ${q.depth === 1 ? "job" : "jobs"} and no worker serves it.`,
    }));

function verdictsOf(minutes) {
  const all = {};
  for (const { verdicts } of minutes)
    for (const [name, n] of Object.entries(verdicts)) all[name] = (all[name] || 0) + n;
  return all;
}

function ofOutcomes({ per_minute: minutes, now }) {
  const found = [];
  const recent = verdictsOf(minutes.filter((m) => m.minute > now - 900));
  const ours = sum(OURS, (name) => recent[name]);
  if (ours)
    found.push({
      level: "crit",
      key: "ours",
      text: [
        `${count(ours)} ${ours === 1 ? "job" : "jobs"} failed by capibox's own fault within 15 minutes: `,
        OURS.filter((name) => recent[name])
          .map((name) => `${name} × ${recent[name]}`)
          .join(", "),
        ". ",
        link("#/jobs?show=failed", "Which?"),
      ],
    });
  const last = minutes.filter((m) => m.minute > now - 360);
  const ended = sum(last, (m) => m.total_executions),
    failed = sum(last, (m) => m.failed_executions);
  if (ended >= 5 && failed / ended > 0.5) {
    const [worst, times] = Object.entries(verdictsOf(last))
      .filter(([name]) => name !== "ok")
      .sort((a, b) => b[1] - a[1])[0] || ["failed", failed];
    found.push({
      level: "warn",
      key: "rate",
      text: [
        `${Math.round((100 * failed) / ended)} % of the last 5 minutes' ${count(ended)} jobs failed, most with ${worst.replaceAll("_", " ")} (${count(times)}). `,
        link("#/jobs?show=failed", "Which?"),
      ],
    });
  }
  return found;
}

const ofDead = ({ dead }) =>
  dead > 0
    ? [
        {
          level: "warn",
          key: "dead",
          text: [
            `${count(dead)} ${dead === 1 ? "job lies" : "jobs lie"} in the dead letters. `,
            link("#/dead", "Retry or drop"),
          ],
        },
      ]
    : [];

const RANK = { crit: 0, warn: 1, info: 2 };
export function trouble(stats) {
  return [ofPause, ofWorkers, ofQueues, ofOutcomes, ofDead]
    .flatMap((look) => look(stats))
    .sort((a, b) => RANK[a.level] - RANK[b.level]);
}

const WORDS = { crit: "Broken", warn: "Look at", info: "Note" };
export function troubleList(stats) {
  const found = trouble(stats);
  return h(
    "section",
    { class: "trouble", "aria-label": "What needs attention", "data-key": "trouble" },
    found.length === 0
      ? h("p", { class: "calm" }, h("span", { "aria-hidden": "true" }, "✓ "), "Nothing needs attention.")
      : h(
          "ul",
          {},
          found.map(({ level, key, text }) =>
            h("li", { class: level, "data-key": key }, h("strong", {}, WORDS[level]), h("span", {}, text)),
          ),
        ),
  );
}
