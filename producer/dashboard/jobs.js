// jobs.js -- the list of jobs: those that run, and those that ended last.
import * as api from "./api.js";
import { act, age, badge, card, h, jobLink, moment, plain, seconds, show, table } from "./dom.js";

const OPEN = ["queued", "delayed", "running"];
export const isOpen = (status) => OPEN.includes(status);

function took(job, now) {
  if (job.status === "running" && job.started_at) return `${age(now - job.started_at)} …`;
  return job.execution_time === undefined ? "–" : seconds(job.execution_time);
}

export function jobTable(jobs, now, empty) {
  return table(
    "Jobs",
    ["Job", "State", "-Template", "-Worker", "Took#", "-Ended#", "-Error", ""],
    jobs.map((job) => ({
      key: job.job_id,
      cells: [
        jobLink(job.job_id),
        badge(isOpen(job.status) ? job.status : job.verdict || job.status),
        h(
          "span",
          { class: "keep" },
          job.template_used || "–",
          job.language && h("span", { class: "dim" }, ` ${job.language}`),
        ),
        h("span", { class: "id", title: job.worker || "" }, job.worker || "–"),
        took(job, now),
        job.finished_at ? moment(job.finished_at) : "–",
        h("span", { class: "clip", title: plain(job.error || "") }, plain(job.error || "")),
        isOpen(job.status) && act("cancel", job.job_id, "Cancel", `Cancel job ${job.job_id}`),
      ],
    })),
    empty || "No job ran while a gateway listened. Run some code to see it here.",
  );
}

const FILTERS = [
  ["all", "All", () => true],
  ["open", "Running", (job) => isOpen(job.status)],
  ["failed", "Failed", (job) => !isOpen(job.status) && job.status !== "succeeded"],
  ["ok", "Succeeded", (job) => job.status === "succeeded"],
];

export function jobsPage(root, query) {
  let jobs = [];
  const shown = FILTERS.find(([name]) => name === query.get("show")) || FILTERS[0];
  return {
    title: "Jobs",
    load: async () => {
      jobs = (await api.getJobs(200)).jobs;
    },
    render(stats) {
      const list = jobs.filter(shown[2]);
      show(
        root,
        h("h1", { "data-key": "h1" }, "Jobs"),
        h(
          "form",
          { class: "row", "data-key": "find", "data-act": "find" },
          h("label", { for: "find" }, "Job id"),
          h("input", { id: "find", name: "id", autocomplete: "off", spellcheck: "false", maxlength: "64" }),
          h("button", {}, "Open"),
        ),
        h(
          "nav",
          { class: "row filters", "data-key": "filters", "aria-label": "Which jobs" },
          FILTERS.map(([name, text, test]) =>
            h(
              "a",
              { href: `#/jobs?show=${name}`, "aria-current": name === shown[0] ? "true" : null },
              `${text} ${jobs.filter(test).length}`,
            ),
          ),
        ),
        h(
          "div",
          { "data-key": "list" },
          card("The last 200", jobTable(list, stats.now, jobs.length ? "None of this kind." : "")),
        ),
      );
    },
  };
}
