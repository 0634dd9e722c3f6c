// dead.js -- the dead letters: jobs whose attempts are used up, and jobs that
// nobody could read.
import * as api from "./api.js";
import { act, badge, card, count, facts, h, moment, plain, show, table } from "./dom.js";
import { block } from "./results.js";

const PAGE = 50;

const row = (one) => ({
  key: `${one.job_id} ${one.at}`,
  cells: [
    h("a", { href: `#/dead/${encodeURIComponent(one.job_id)}`, class: "id", title: one.job_id }, one.job_id),
    badge(one.verdict),
    h("span", { class: "clip", title: plain(one.error || "") }, plain(one.error || "–")),
    one.queue || "–",
    one.deliveries === undefined ? "–" : count(one.deliveries),
    one.at ? moment(one.at) : "–",
    h(
      "span",
      { class: "row" },
      act("retry", one.job_id, "Retry", `Retry job ${one.job_id}`),
      act("drop", one.job_id, "Drop", `Drop job ${one.job_id}`, { class: "danger" }),
    ),
  ],
});

function pager(from, total) {
  if (total <= PAGE && from === 0) return null;
  return h(
    "nav",
    { class: "row", "aria-label": "Pages", "data-key": "pager" },
    from > 0 && h("a", { href: `#/dead?from=${Math.max(0, from - PAGE)}` }, "Newer"),
    h("span", {}, `${from + 1} to ${Math.min(from + PAGE, total)} of ${count(total)}`),
    from + PAGE < total && h("a", { href: `#/dead?from=${from + PAGE}` }, "Older"),
  );
}

export function deadPage(root, query) {
  const from = Math.max(0, Number.parseInt(query.get("from"), 10) || 0);
  let list = { total: 0, dead: [] };
  return {
    title: "Dead letters",
    load: async () => {
      list = await api.getDead(from, PAGE);
    },
    render() {
      const ids = [...new Set(list.dead.map((one) => one.job_id))];
      show(
        root,
        h("h1", { "data-key": "h1" }, "Dead letters"),
        h(
          "p",
          { class: "dim", "data-key": "why" },
          "Jobs whose attempts are used up, and jobs that were rejected. Retry puts one back into its queue, with all its attempts.",
        ),
        h(
          "div",
          { "data-key": "list" },
          card(
            `${count(list.total)} dead`,
            table(
              "Dead letters",
              ["Job", "Verdict", "-Error", "-Queue", "-Tries#", "-Since#", ""],
              list.dead.map(row),
              "No dead letters.",
            ),
          ),
        ),
        ids.length > 1
          ? h(
              "p",
              { class: "row", "data-key": "all" },
              act(
                "retry-many",
                ids.join(" "),
                `Retry these ${ids.length}`,
                `Retry all ${ids.length} jobs on this page`,
              ),
              act(
                "drop-many",
                ids.join(" "),
                `Drop these ${ids.length}`,
                `Drop all ${ids.length} jobs on this page`,
                { class: "danger" },
              ),
            )
          : null,
        pager(from, list.total),
      );
    },
  };
}

function codeOf(text) {
  try {
    return JSON.parse(text.slice(text.indexOf("{"))).code;
  } catch {
    return null; // cut short, or never was a job
  }
}

export function deadJobPage(root, query, { id }) {
  let one = null,
    gone = false;
  return {
    title: `Dead job ${id}`,
    once: true,
    async load() {
      try {
        one = await api.getDeadOne(id);
      } catch (fault) {
        if (fault.status !== 404) throw fault;
        gone = true;
      }
    },
    render() {
      if (gone || !one) {
        show(
          root,
          h("h1", {}, "Not among the dead"),
          h(
            "p",
            {},
            "The dead list has no job ",
            h("code", {}, id),
            " any more. ",
            h("a", { href: `#/jobs/${encodeURIComponent(id)}` }, "Its page"),
            " may still tell how it went.",
          ),
        );
        return;
      }
      const { about, text } = one;
      const code = codeOf(text);
      show(
        root,
        h(
          "div",
          { class: "jobhead" },
          h("h1", { class: "id" }, id),
          badge(about.verdict),
          h(
            "span",
            { class: "row" },
            act("retry", id, "Retry", `Retry job ${id}`),
            act("drop", id, "Drop", `Drop job ${id}`, { class: "danger" }),
            h("a", { href: `#/jobs/${encodeURIComponent(id)}` }, "Its result"),
          ),
        ),
        h(
          "section",
          { class: "card error", "aria-label": "Error" },
          h("h2", {}, "Error"),
          h("p", {}, plain(about.error || "–")),
        ),
        card(
          "About",
          facts([
            ["Queue", about.queue],
            ["Times taken", about.deliveries],
            ["Attempts charged", about.attempts],
            ["Worker", about.worker],
            ["Since", about.at && moment(about.at)],
            ["Bytes", about.bytes],
          ]),
        ),
        code ? card("Code", block(code, "Code")) : null,
        h(
          "details",
          { open: !code },
          h("summary", {}, "The job as it came"),
          block(text, "The job as it came"),
        ),
      );
    },
  };
}
