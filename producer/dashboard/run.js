// run.js -- the form that runs code, with the job it became below it.
import * as api from "./api.js";
import { h } from "./dom.js";
import { jobView, rememberSource } from "./job.js";

const EXAMPLES = {
  hello: ["default", "python", 'print("hello from a sandbox")\n6 * 7'],
  plot: [
    "visualization",
    "python",
    `import numpy as np
import matplotlib.pyplot as plt

x = np.linspace(0, 4 * np.pi, 400)
plt.figure(figsize=(7, 3.5))
plt.plot(x, np.sin(x) * np.exp(-x / 8), label="damped")
plt.plot(x, np.sin(x), alpha=.4, label="free")
plt.legend()
plt.title("Two oscillators")
plt.show()`,
  ],
  table: [
    "data_analysis",
    "python",
    `import pandas as pd

frame = pd.DataFrame({"city": ["Bilbao", "Donostia", "Gasteiz"],
                      "people": [346096, 188743, 255886]})
frame`,
  ],
  stream: [
    "quick_script",
    "bash",
    `for i in 1 2 3 4 5 6 7 8; do
    echo "step $i of 8"
    sleep 0.5
done`,
  ],
};

const field = (id, label, control, help) =>
  h(
    "div",
    { class: "field" },
    h("label", { for: id }, label),
    control,
    help && h("small", { id: `${id}-help` }, help),
  );
const number = (id, name, min, max) =>
  h("input", {
    id,
    name,
    type: "number",
    min,
    max,
    step: "any",
    inputmode: "decimal",
    "aria-describedby": `${id}-help`,
  });
const option = (value, text) => h("option", { value }, text || value);

function form(templates) {
  return h(
    "form",
    // run() says what is wrong: the browser cannot show it in closed details.
    { class: "card run", "data-own": "form", "aria-label": "Run code", novalidate: true },
    h(
      "div",
      { class: "fields" },
      field(
        "template",
        "Template",
        h(
          "select",
          { id: "template", name: "template" },
          templates.map(({ id, name }) => option(id, `${name || id} (${id})`)),
          option("auto", "Chosen by what the code imports"),
        ),
      ),
      field("language", "Language", h("select", { id: "language", name: "language" })),
      field(
        "example",
        "Example",
        h(
          "select",
          { id: "example" },
          option("", "–"),
          Object.keys(EXAMPLES).map((name) => option(name)),
        ),
      ),
    ),
    field(
      "code",
      "Code",
      h("textarea", {
        id: "code",
        name: "code",
        rows: "14",
        spellcheck: "false",
        autocapitalize: "off",
        autocomplete: "off",
        required: true,
        "aria-describedby": "code-help",
      }),
      "Ctrl+Enter runs it.",
    ),
    h(
      "details",
      {},
      h("summary", {}, "Limits and input"),
      h(
        "div",
        { class: "fields" },
        field(
          "timeout",
          "Timeout",
          number("timeout", "timeout", "0.1", "86400"),
          "seconds; empty: the template's",
        ),
        field("memory", "Memory", number("memory", "memory", "16", "1048576"), "MB; empty: the template's"),
        field(
          "outputs",
          "Files to keep",
          h("input", {
            id: "outputs",
            name: "outputs",
            spellcheck: "false",
            autocomplete: "off",
            "aria-describedby": "outputs-help",
          }),
          "names or globs, by spaces",
        ),
      ),
      field(
        "stdin",
        "Standard input",
        h("textarea", { id: "stdin", name: "stdin", rows: "3", spellcheck: "false" }),
      ),
    ),
    h("p", { class: "problem", role: "alert", hidden: true }),
    h("div", { class: "row" }, h("button", { class: "primary" }, "Run")),
  );
}

function jobOf(data) {
  const job = { code: data.get("code"), template: data.get("template"), stream: true, async: true };
  const requirements = {};
  if (data.get("language")) job.language = data.get("language");
  if (data.get("timeout")) requirements.timeout = Number(data.get("timeout"));
  if (data.get("memory")) requirements.memory_limit_mb = Number(data.get("memory"));
  if (Object.keys(requirements).length) job.requirements = requirements;
  if (data.get("stdin")) job.stdin = data.get("stdin");
  const outputs = data.get("outputs").split(/\s+/).filter(Boolean);
  if (outputs.length) job.output_files = outputs;
  return job;
}

// Where a complaint of the gateway belongs.
const CONTROLS = {
  code: "code",
  language: "language",
  template: "template",
  timeout: "timeout",
  "requirements.timeout": "timeout",
  "requirements.memory_limit_mb": "memory",
  output_files: "outputs",
  stdin: "stdin",
};

let draft = null; // a job; survives a look at another page
export const forgetDraft = () => {
  draft = null;
};

export function runPage(root, query, { say, source }) {
  const place = h("div", { class: "ran" });
  const again = query.get("again");
  let view = null,
    element = null,
    before = null, // the job to run again
    templates = [];

  function languages() {
    const select = element.elements.language,
      before = select.value;
    const chosen = templates.find(({ id }) => id === element.elements.template.value);
    const list = chosen
      ? chosen.supported_languages
      : [...new Set(templates.flatMap((t) => t.supported_languages))];
    select.replaceChildren(...list.map((name) => option(name)));
    if (list.includes(before)) select.value = before;
  }

  function fillCode({ template, language, code }) {
    const fields = element.elements;
    if ([...fields.template.options].some(({ value }) => value === template)) fields.template.value = template;
    languages();
    if (language) fields.language.value = language;
    fields.code.value = code;
  }

  // The whole form, out of a job as jobOf() makes it.
  function fillIn({ requirements = {}, stdin = "", output_files: outputs = [], ...rest }) {
    const { timeout, memory_limit_mb: memory } = requirements;
    const more = { timeout, memory, stdin, outputs: outputs.join(" ") };
    fillCode(rest);
    for (const [name, value] of Object.entries(more)) element.elements[name].value = value ?? "";
    element.querySelector("details").open = Object.values(more).some(Boolean);
  }

  // What the gateway tells of a job that this page did not run, or null. Limits
  // that are the template's own are left to the template.
  async function askedFor(id) {
    let job;
    try {
      job = await api.getJob(id);
    } catch (fault) {
      if (fault.status !== 404) throw fault;
      return null;
    }
    const { code, template_used: template, language, sandbox_info: info } = job;
    const own = templates.find((one) => one.id === template)?.config || {};
    const requirements = {};
    for (const name of ["timeout", "memory_limit_mb"])
      if (info?.config && info.config[name] !== own[name]) requirements[name] = info.config[name];
    return code ? { code, template, language, requirements } : null;
  }

  function problem(text, id) {
    const line = element.querySelector(".problem");
    line.textContent = text;
    line.hidden = !text;
    for (const control of element.querySelectorAll("[aria-invalid]")) control.removeAttribute("aria-invalid");
    const control = id && element.querySelector(`#${id}`);
    if (!control) return;
    control.closest("details")?.setAttribute("open", "");
    control.setAttribute("aria-invalid", "true");
    control.focus();
  }

  async function run() {
    const wrong = element.querySelector(":invalid");
    if (wrong) {
      problem(`${wrong.labels[0].textContent}: ${wrong.validationMessage}`, wrong.id);
      return;
    }
    const job = jobOf(new FormData(element));
    const button = element.querySelector(".primary");
    button.disabled = true;
    problem("");
    try {
      const { job_id: id } = await api.submit(job);
      rememberSource(id, job);
      view?.stop();
      say(`Job ${id} is queued`);
      view = jobView(place, id, { say, level: "h2" });
    } catch (fault) {
      problem(fault.message, CONTROLS[fault.field.replace(/\[.*/, "")]);
    } finally {
      button.disabled = false;
    }
  }

  function wire() {
    element.addEventListener("submit", (event) => {
      event.preventDefault();
      run();
    });
    element.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
        event.preventDefault();
        run();
      }
    });
    element.addEventListener("change", (event) => {
      if (event.target.name === "template") languages();
      if (event.target.id === "example" && event.target.value) {
        const [template, language, code] = EXAMPLES[event.target.value];
        fillCode({ template, language, code });
      }
    });
  }

  return {
    title: "Run code",
    once: true,
    load: async () => {
      if (element) return;
      templates = await api.getTemplates();
      if (again) before = source(again) || (await askedFor(again));
    },
    render() {
      if (element) return;
      element = form(templates);
      root.replaceChildren(h("h1", {}, "Run code"), element, place);
      wire();
      fillIn(before || draft || { template: "default", code: EXAMPLES.hello[2] });
      if (again && !before) problem(`The code of job ${again} was not kept.`);
      // Who comes back to the form finds it as it was left, not that job again.
      if (again) history.replaceState(null, "", "#/run");
    },
    stop() {
      view?.stop();
      if (element) draft = jobOf(new FormData(element));
    },
  };
}
