#!/usr/bin/env node
// test_dashboard.mjs -- the dashboard in a real Chromium, on the built programs.
//
// Prints TAP for tests/run.sh. A word as argument: only tests with it in their
// names. Screenshots land in build/screenshots.
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Browser, whyNot } from "./browser.mjs";
import { KEY, Stage, sleep, until } from "./stage.mjs";
import { runAll, skipAll, test } from "./tap.mjs";

let stage, browser;

const jobUrl = (id) => `#/jobs/${encodeURIComponent(id)}`;
const on = (options, use) => browser.with({ url: stage.url, ...options }, use);
const live = (page) => page.getByText("live", { exact: true }).waitFor();
const badge = (page, text) => page.locator("main .jobhead .badge", { hasText: text }).waitFor();
const output = (page) => page.locator("pre.output");

async function typeCode(page, template, language, code) {
  await page.getByLabel("Template").selectOption(template);
  await page.getByLabel("Language").selectOption(language);
  await page.getByRole("textbox", { name: "Code" }).fill(code);
}

// Writes the template `broken`, whose python is or is not there.
function breakTemplate(works) {
  const template = JSON.parse(readFileSync(join(stage.templates, "quick_script.json"), "utf8"));
  Object.assign(template, {
    id: "broken",
    name: "Broken",
    task_types: [],
    languages: ["python"],
    packages: [],
  });
  template.local = { python: works ? "/usr/bin/python3" : "/usr/bin/no-such-python" };
  writeFileSync(join(stage.templates, "broken.json"), JSON.stringify(template, null, 1));
}

async function deadJob(more) {
  const id = await stage.submit({ template: "broken", code: "print('risen')", max_attempts: 1, ...more });
  assert.equal((await stage.ended(id)).status, "dead");
  return id;
}

// ---- running ----------------------------------------------------------------

test("code_from_the_form_shows_its_plot", () =>
  on({ hash: "#/run" }, async (page) => {
    await page.getByLabel("Example").selectOption("plot");
    await page.getByRole("textbox", { name: "Code" }).press("Control+Enter");
    const picture = page.locator(".ran img.picture");
    await picture.waitFor();
    assert.ok(
      await picture.evaluate(async (img) => {
        await img.decode();
        return img.naturalWidth > 300;
      }),
    );
    assert.ok((await picture.getAttribute("alt")).length > 5);
    await badge(page, "ok");
    assert.match(await page.getByRole("status").textContent(), /has ended: ok/);
    await browser.accessible(page, "the form with a plot");
    await browser.shot(page, "run-plot");
  }));

test("output_shows_while_the_job_runs", () =>
  on({ hash: "#/run" }, async (page) => {
    // bash tells of the end of a sleep, but not here.
    await typeCode(
      page,
      "quick_script",
      "bash",
      "hold() { sleep 60; } 2>/dev/null; echo step 1; hold; for i in 2 3 4; do echo step $i; done; hold; echo oops >&2",
    );
    const shows = (text) => until(text, async () => (await output(page).textContent()).includes(text));
    await page.getByRole("button", { name: "Run", exact: true }).click();
    await shows("step 1");
    await badge(page, "running");
    assert.ok(!(await output(page).textContent()).includes("step 2"), "it was not held");
    await stage.wake();
    await shows("step 4");
    await badge(page, "running");
    await stage.wake();
    await badge(page, "ok");
    assert.equal((await output(page).textContent()).trim(), "step 1\nstep 2\nstep 3\nstep 4\noops");
    assert.equal((await output(page).locator(".stderr").textContent()).trim(), "oops");
  }));

// Whoever reads "ok" and looks at once must find the output there.
test("the_end_of_a_job_is_said_with_its_output", async () => {
  const id = await stage.submit({ code: "print('at the end')" });
  await stage.ended(id);
  await on({}, async (page) => {
    let asked = 0,
      release;
    const held = new Promise((resolve) => (release = resolve));
    // What it asks for besides the first look comes when it is let.
    await page.route(
      (url) => url.pathname.endsWith(`/jobs/${id}`),
      async (route) => {
        if (++asked > 1) await held;
        await route.continue();
      },
    );
    await page.goto(`${stage.url}${jobUrl(id)}`);
    // Its events are there, and its end is to be asked for.
    await until("its output", async () => (await output(page).textContent()).includes("at the end"));
    await until("it asks again", () => asked > 1);
    assert.equal(await page.locator("main .jobhead .badge").count(), 0);
    release();
    await badge(page, "ok");
    assert.match(await output(page).textContent(), /at the end/);
  });
});

test("a_stream_that_broke_off_is_told_of_until_it_is_back", async () => {
  const id = await stage.submit({ code: "print(1)", delay: 600 });
  await on({ network: true }, async (page) => {
    const events = new RegExp(`/jobs/${id}/events$`);
    await page.route(events, (route) => route.abort());
    await page.goto(`${stage.url}${jobUrl(id)}`);
    const banner = page.getByText("The stream broke off");
    await banner.waitFor();
    await sleep(2500); // the page is drawn each second: the time itself is the subject
    assert.equal(await banner.count(), 1);
    await page.unroute(events);
    await banner.waitFor({ state: "detached" });
    await badge(page, "delayed");
  });
});

// A job that prints a line an event, as a flushing one does: put down by hand, for
// how many lines a worker reads at a time depends on how busy the machine is.
const CHATTER = `local offset = {stdout = 0, stderr = 0}
for i = 0, ARGV[1] - 1 do
  local stream, text = i % 1000 == 500 and 'stderr' or 'stdout', i .. '\\n'
  redis.call('XADD', KEYS[1], '*', 'type', stream, 'offset', offset[stream], 'data', text)
  offset[stream] = offset[stream] + #text
end`;

test("a_chatty_job_shows_within_a_second_and_in_order", async () => {
  const id = `chatty-${Date.now()}`,
    most = Number(process.env.CHATTER_LINES) || 6000;
  stage.redis("hset", `{capibox}:job:${id}`, "status", "running");
  stage.redis("eval", CHATTER, "1", `{capibox}:events:${id}`, most);
  await on({}, async (page) => {
    const shown = () =>
      output(page).evaluate((box, last) => box.textContent.endsWith(`\n${last}\n`), most - 1);
    let took;
    // A second, and one for a busy machine; which may be too busy at one time.
    for (let tries = 0; tries < 4 && !(took < 2000); tries++) {
      await page.goto(stage.url);
      await live(page);
      const begun = Date.now();
      await page.goto(`${stage.url}${jobUrl(id)}`);
      await until("its last line", shown, 50000);
      took = Date.now() - begun;
      if (process.env.BROWSER_TIMES) console.log(`# shown, ${most} lines: ${took} ms`);
    }
    assert.ok(took < 2000, `it took ${took} ms`);
    const lines = (await output(page).textContent()).trim().split("\n").map(Number);
    assert.deepEqual(lines, Array.from({ length: lines.length }, (_, i) => most - lines.length + i));
    assert.equal(lines.length, 6000);
    assert.deepEqual((await output(page).locator(".stderr").allTextContents()).slice(0, 2), ["500\n", "1500\n"]);
    assert.ok(await output(page).evaluate((box) => box.scrollHeight - box.scrollTop - box.clientHeight < 24));
  });
  stage.redis("del", `{capibox}:job:${id}`, `{capibox}:events:${id}`);
});

test("the_output_box_keeps_the_end_and_says_what_it_left_out", async () => {
  const id = `flood-${Date.now()}`;
  const lines = (from, to) => Array.from({ length: to - from }, (_, i) => `${from + i}\n`).join("");
  const print = (text, offset, stream = "stdout") =>
    stage.redis("xadd", `{capibox}:events:${id}`, "*", "type", stream, "offset", offset, "data", text);
  stage.redis("hset", `{capibox}:job:${id}`, "status", "running");
  print(lines(0, 15000), 0);
  print("oops\n", 0, "stderr");
  print(lines(15000, 30000), lines(0, 15000).length);
  await on({ hash: jobUrl(id) }, async (page) => {
    const note = page.getByText(/The first [\d,]+ characters \([\d,]+ lines\) are not shown here/);
    await note.waitFor();
    const shown = (await output(page).textContent()).trim().split("\n");
    assert.equal(shown.at(-1), "29999");
    assert.ok(shown.length > 15000 && shown.length <= 20000, `${shown.length} lines`);
    const [, gone] = /\(([\d,]+) lines\)/.exec(await note.textContent());
    assert.equal(Number(gone.replace(",", "")) + shown.length, 30001);
    assert.equal(shown[shown.indexOf("15000") - 1], "oops");
    // Who reads further up is left there; who is at the end stays at the end.
    await output(page).evaluate((box) => (box.scrollTop = 1000));
    print("more\n", lines(0, 30000).length);
    await until("more", async () => (await output(page).textContent()).endsWith("more\n"));
    assert.ok(await output(page).evaluate((box) => box.scrollTop < 5000));
    await output(page).evaluate((box) => (box.scrollTop = box.scrollHeight));
    print("still\n".repeat(50), lines(0, 30000).length + 5);
    await until("still more", async () => (await output(page).textContent()).endsWith("still\n"));
    assert.ok(await output(page).evaluate((box) => box.scrollHeight - box.scrollTop - box.clientHeight < 24));
    const [end, next] = await page.evaluate(() => [
      document.querySelector("section:has(pre.output)").getBoundingClientRect().bottom,
      document.querySelector(".part.rest").getBoundingClientRect().top,
    ]);
    assert.ok(end <= next, "what follows lies over the output");
    await browser.accessible(page, "a box of output that is full", { part: "main" });
  });
  stage.redis("del", `{capibox}:job:${id}`, `{capibox}:events:${id}`);
});

// As the events of a job are whose first worker died.
test("a_second_try_shows_anew_and_says_so", async () => {
  const id = `twice-${Date.now()}`;
  const event = (type, data, offset = 0) =>
    stage.redis("xadd", `{capibox}:events:${id}`, "*", "type", type, "offset", offset, "data", data);
  stage.redis("hset", `{capibox}:job:${id}`, "status", "running");
  event("state", "running");
  event("stdout", "one\n");
  event("stdout", "two\n", 4);
  await on({ hash: jobUrl(id) }, async (page) => {
    const note = page.getByText("The job started over");
    const shows = (text) => until(text, async () => (await output(page).textContent()) === text);
    await shows("one\ntwo\n");
    assert.equal(await note.isVisible(), false);
    event("state", "queued");
    event("state", "running");
    await until("an empty box", async () => (await output(page).textContent()) === "");
    await note.waitFor();
    event("stdout", "one\n");
    event("stderr", "again\n");
    await shows("one\nagain\n");
    event("stdout", "three\n", 104);
    await until("the gap", async () => /… 100 bytes are not shown/.test(await output(page).textContent()));
    event("stdout", "third\n"); // and nothing left of the state before it
    await shows("third\n");
    await note.waitFor();
    // Who comes later sees the same.
    await page.goto(stage.url);
    await page.goto(`${stage.url}${jobUrl(id)}`);
    await shows("third\n");
    await note.waitFor();
    await browser.accessible(page, "a job that started over", { part: "main" });
  });
  stage.redis("del", `{capibox}:job:${id}`, `{capibox}:events:${id}`);
});

test("a_running_job_is_cancelled", () =>
  on({ hash: "#/run" }, async (page) => {
    await typeCode(page, "quick_script", "python", "import time\nprint('up', flush=True)\ntime.sleep(50)");
    await page.getByRole("button", { name: "Run", exact: true }).click();
    await until("it runs", async () => (await output(page).textContent()).includes("up"));
    await browser.shot(page, "run-streaming");
    await page.getByRole("button", { name: /^Cancel job/ }).click();
    await badge(page, "cancelled");
    assert.match(await output(page).textContent(), /up/);
    assert.equal(await page.getByRole("button", { name: /^Cancel/ }).count(), 0);
  }));

test("workers_show_what_they_run_and_a_job_is_cancelled_from_the_list", async () => {
  const id = await stage.submit({
    template: "quick_script",
    language: "python",
    code: "import time; time.sleep(50)",
  });
  await on({}, async (page) => {
    await page.getByRole("group", { name: "Workers" }).getByRole("link", { name: id }).waitFor();
    await browser.shot(page, "overview-busy");
    await page.getByRole("button", { name: `Cancel job ${id}` }).click();
    await page.locator("tr", { hasText: id }).locator(".badge", { hasText: "cancelled" }).waitFor();
  });
});

test("a_complaint_names_the_field", () =>
  on({ hash: "#/run", network: true }, async (page) => {
    await page.getByText("Limits and input").click();
    await page.getByLabel("Timeout").fill("0.5");
    await page.getByLabel("Files to keep").fill("../../etc/passwd");
    await page.getByRole("button", { name: "Run", exact: true }).click();
    await page.getByRole("alert").filter({ hasText: /\S/ }).waitFor();
    assert.equal((await page.locator("[aria-invalid]").count()) > 0, true);
  }));

test("a_limit_out_of_range_is_said_though_its_details_are_closed", () =>
  on({ hash: "#/run" }, async (page) => {
    const details = page.locator("form details");
    const complaint = page.getByRole("alert").filter({ hasText: "Memory: " });
    await page.getByText("Limits and input").click();
    await page.getByLabel("Memory").fill("3");
    await page.getByText("Limits and input").click();
    for (const press of [
      () => page.getByRole("button", { name: "Run", exact: true }).click(),
      () => page.getByRole("textbox", { name: "Code" }).press("Control+Enter"),
    ]) {
      await details.evaluate((element) => element.removeAttribute("open"));
      await press();
      await complaint.waitFor();
      assert.match(await complaint.textContent(), /16/);
      assert.deepEqual(
        await page.evaluate(() => [document.activeElement.id, document.activeElement.ariaInvalid]),
        ["memory", "true"],
      );
      assert.ok(await details.evaluate((element) => element.open));
    }
    await browser.accessible(page, "a form that complains");
    await page.getByLabel("Memory").fill("");
    await page.getByRole("textbox", { name: "Code" }).fill("");
    await page.getByRole("button", { name: "Run", exact: true }).click();
    await page.getByRole("alert").filter({ hasText: "Code: " }).waitFor();
    assert.equal(await page.evaluate(() => document.activeElement.id), "code");
    assert.equal(await page.locator(".ran .jobhead").count(), 0);
  }));

const FORM = ["template", "language", "code", "timeout", "memory", "outputs", "stdin"];
const formOf = (page) =>
  page.evaluate((names) => names.map((name) => document.getElementById(name).value), FORM);
const pageLink = (page, name) =>
  page.getByRole("navigation", { name: "Pages" }).getByRole("link", { name });

test("a_job_is_run_again_with_all_it_had_and_the_form_keeps_its_state", () =>
  on({ hash: "#/run" }, async (page) => {
    await typeCode(page, "quick_script", "bash", "cat; echo kept >left.txt");
    await page.getByText("Limits and input").click();
    await page.getByLabel("Timeout").fill("7.5");
    await page.getByLabel("Memory").fill("96");
    await page.getByLabel("Files to keep").fill("left.txt *.csv");
    await page.getByLabel("Standard input").fill("some words\n");
    const filled = await formOf(page);
    await page.getByRole("button", { name: "Run", exact: true }).click();
    await badge(page, "ok");
    const id = await page.locator(".jobhead .id").textContent();
    await pageLink(page, "Jobs").click();
    await page.getByRole("heading", { name: "Jobs", level: 1 }).waitFor();
    await pageLink(page, "Run code").click();
    await page.getByLabel("Standard input").waitFor(); // the details are open
    assert.deepEqual(await formOf(page), filled);

    await page.getByLabel("Example").selectOption("table");
    assert.equal((await formOf(page))[3], "7.5", "an example took the limits away");
    await page.goBack();
    await page.getByRole("link", { name: id }).click();
    await page.getByRole("link", { name: "Edit and run again" }).click();
    await page.getByLabel("Standard input").waitFor();
    assert.deepEqual(await formOf(page), filled);
    // And what was changed then is there after a look elsewhere.
    await page.getByLabel("Timeout").fill("8");
    await pageLink(page, "Overview").click();
    await page.getByRole("heading", { name: "Workers" }).waitFor();
    await page.goBack();
    await page.getByLabel("Standard input").waitFor();
    assert.equal((await formOf(page))[3], "8");
  }));

test("a_job_of_somebody_else_is_run_again_with_what_the_gateway_tells", async () => {
  const code = "print('theirs')";
  const id = await stage.submit({ template: "quick_script", language: "python", code, timeout: 9 });
  await stage.ended(id);
  await on({ hash: jobUrl(id) }, async (page) => {
    await page.getByRole("link", { name: "Edit and run again" }).click();
    await page.getByLabel("Timeout").waitFor();
    assert.deepEqual(await formOf(page), ["quick_script", "python", code, "9", "", "", ""]);
  });
  await on({ hash: "#/run?again=nobody-knows", network: true }, async (page) => {
    await page.getByRole("alert").getByText("The code of job nobody-knows was not kept.").waitFor();
  });
});

// ---- one job ----------------------------------------------------------------

test("a_failed_job_shows_what_went_wrong_and_what_held_it", async () => {
  const id = await stage.submit({
    template: "quick_script",
    language: "python",
    code: "import sys\nprint('before')\nprint('aside', file=sys.stderr)\nopen('left.txt', 'w').write('kept')\ndef inner():\n    raise ValueError('seven is not a colour')\ninner()",
    output_files: ["left.txt"],
  });
  await stage.ended(id);
  await on({ hash: jobUrl(id) }, async (page) => {
    await badge(page, "user error");
    const error = page.getByRole("region", { name: "Error" });
    assert.match(await error.textContent(), /ValueError: seven is not a colour/);
    assert.match(await error.textContent(), /Traceback[\s\S]*inner\(\)/);
    assert.match(await output(page).textContent(), /before/);
    const limits = await page.getByRole("group", { name: "Limits", exact: true }).textContent();
    for (const word of ["timeout", "memory", "pids", "network", "60 s", "256 MB"])
      assert.ok(limits.includes(word), word);
    assert.match(await page.getByRole("region", { name: "Times" }).textContent(), /run [\d.]+ m?s/);
    const [saved] = await Promise.all([
      page.waitForEvent("download"),
      page.getByRole("button", { name: "Download left.txt" }).click(),
    ]);
    assert.equal(readFileSync(await saved.path(), "utf8"), "kept");
    await browser.accessible(page, "a job's page");
    await browser.shot(page, "job-failed");
  });
});

test("a_job_that_waits_or_runs_shows_its_code_and_limits", async () => {
  const code = "import time\nprint('up', flush=True)\ntime.sleep(50)";
  const id = await stage.submit({ template: "quick_script", language: "python", code });
  const region = (page, name) => page.getByRole("region", { name, exact: true });
  await on({ hash: jobUrl(id) }, async (page) => {
    await badge(page, "running");
    assert.equal(await page.getByRole("group", { name: "Code" }).textContent(), code);
    await region(page, "Limits").getByText("256 MB").waitFor();
    assert.match(await region(page, "Limits").textContent(), /60 s.*The template's/);
    await browser.accessible(page, "a running job");
    await page.getByRole("button", { name: /^Cancel job/ }).click();
    await region(page, "Limits and what held them").waitFor();
    assert.equal(await region(page, "Limits").count(), 0);
    assert.equal(await page.getByRole("group", { name: "Code" }).textContent(), code);
  });
  stage.redis("hset", "{capibox}:job:waits", "status", "queued", "code", "print('later')");
  await on({ hash: jobUrl("waits") }, async (page) => {
    await page.getByRole("group", { name: "Code" }).getByText("print('later')").waitFor();
    await region(page, "Limits").getByText("Not known before a worker").waitFor();
  });
  stage.redis("del", "{capibox}:job:waits");
  // Of what this page sent it knows the limits.
  await on({ hash: "#/run" }, async (page) => {
    await typeCode(page, "quick_script", "python", code);
    await page.getByText("Limits and input").click();
    await page.getByLabel("Timeout").fill("7.5");
    await page.getByRole("button", { name: "Run", exact: true }).click();
    await region(page, "Limits").getByText("7.5 s").waitFor();
    await region(page, "Limits").getByText("256 MB").waitFor();
    assert.equal(await region(page, "Limits").getByText("The template's").count(), 0);
    await page.getByRole("button", { name: /^Cancel job/ }).click();
    await badge(page, "cancelled");
  });
});

test("a_table_is_shown", async () => {
  const id = await stage.submit({
    template: "data_analysis",
    code: "import pandas as pd\npd.DataFrame({'city': ['Bilbao', 'Gasteiz'], 'people': [346096, 255886]})",
  });
  await stage.ended(id);
  await on({ hash: jobUrl(id) }, async (page) => {
    const frame = page.frameLocator("iframe.frame");
    await frame.getByText("Bilbao").waitFor();
    assert.equal(
      await frame
        .locator("td")
        .first()
        .evaluate((cell) => getComputedStyle(cell).textAlign),
      "right",
      "frame.css did not reach it",
    );
    await browser.accessible(page, "a table");
    await browser.shot(page, "job-table");
  });
});

test("an_unknown_job_is_said_to_be_unknown", () =>
  on({ hash: jobUrl("nobody-knows"), network: true }, async (page) => {
    await page.getByRole("heading", { name: "No such job" }).waitFor();
    assert.match(await page.locator("main").textContent(), /nobody-knows/);
  }));

test("a_stream_goes_on_after_the_gateway_was_away", async () => {
  const id = await stage.submit({
    template: "quick_script",
    language: "bash",
    code: "for i in $(seq 1 30); do echo line $i; sleep 0.1; done",
  });
  await on({ hash: jobUrl(id), network: true }, async (page) => {
    await until("some lines", async () => /line 4\n/.test(await output(page).textContent()));
    await stage.stop("gateway", "SIGKILL");
    await sleep(300);
    await stage.startGateway("gateway", { port: new URL(stage.url).port });
    await badge(page, "ok");
    assert.deepEqual(
      (await output(page).textContent()).trim().split("\n"),
      Array.from({ length: 30 }, (_, i) => `line ${i + 1}`),
    );
  });
});

// ---- hostile jobs -----------------------------------------------------------

const BAIT = "<img src=x onerror=\"parent.caught='img'\"></script><script>caught='script'</script>";

test("hostile_output_is_text", async () => {
  const text = `${BAIT}\u001b[31mred\u001b[0m\u202egnp.exe`;
  const id = await stage.submit({
    template: "quick_script",
    language: "python",
    id: `hostile:${Date.now()}`,
    code: `import sys\ntext = ${JSON.stringify(text)}\nprint(text)\nprint(text, file=sys.stderr)\nraise RuntimeError(text)`,
  });
  await stage.ended(id);
  await on({}, async (page) => {
    for (const hash of ["", "#/jobs", jobUrl(id)]) {
      await page.goto(stage.url + hash);
      await page.locator("main .badge").first().waitFor();
      await page.getByText("<img src=x").first().waitFor({ state: "attached" });
      await sleep(100);
      assert.equal(await page.evaluate(() => globalThis.caught), undefined);
      assert.equal(await page.locator("main img, main script").count(), 0);
    }
    const shown = await output(page).textContent();
    assert.ok(
      shown.includes(BAIT) && shown.includes("\\x1b[31mred\\x1b[0m") && shown.includes("\\u202e"),
      shown,
    );
    await browser.shot(page, "job-hostile");
  });
});

test("html_and_svg_of_a_job_run_nothing", async () => {
  const code = `
from IPython.display import HTML, SVG, display
bait = '''<p>shown</p><script>parent.caught='script'; top.location='about:blank'</script><img src=x onerror="parent.caught='img'">
<a href="javascript:parent.caught='link'" id=go>go</a><iframe srcdoc="<script>top.caught='inner'</script>"></iframe>
<meta http-equiv=refresh content="0;url=/openapi.json"><form action="/api/v1/e2b/execute" method=post><button>x</button></form>'''
display(HTML(bait))
display(SVG('''<svg xmlns="http://www.w3.org/2000/svg" width="80" height="40"><script>parent.caught='svg'</script><rect width="80" height="40" style="fill: teal" onload="parent.caught='onload'"/></svg>'''))
`;
  const id = await stage.submit({ template: "quick_script", language: "python", code });
  const result = await stage.ended(id);
  assert.equal(result.verdict, "ok", result.error);
  await on({ hash: jobUrl(id) }, async (page) => {
    const frames = page.locator("iframe.frame");
    await frames.nth(1).waitFor();
    await frames.nth(0).contentFrame().getByText("shown").waitFor();
    for (const frame of await frames.all()) assert.equal(await frame.getAttribute("sandbox"), "");
    const picture = frames.nth(1).contentFrame().locator("img");
    await picture.waitFor();
    assert.equal(await picture.evaluate((img) => img.decode().then(() => img.naturalWidth)), 80);
    await frames.nth(0).contentFrame().locator("#go").click();
    await sleep(200);
    assert.equal(await page.evaluate(() => globalThis.caught), undefined);
    assert.equal(page.url(), stage.url + jobUrl(id));
    await browser.shot(page, "job-html");
  });
});

// The frame's markup was tamed above; here nothing but sandbox and policy holds.
test("a_frame_runs_no_script_even_if_nothing_was_taken_out", async () => {
  const context = await browser.chromium.newContext();
  const page = await context.newPage();
  await page.goto(stage.url);
  await page.evaluate(
    (bait) =>
      new Promise((resolve) => {
        const frame = document.createElement("iframe");
        frame.setAttribute("sandbox", "");
        frame.srcdoc = `${bait}<p>here</p><meta http-equiv=refresh content="0;url=https://example.org/">`;
        frame.onload = () => setTimeout(resolve, 300);
        document.body.append(frame);
      }),
    BAIT,
  );
  assert.equal(await page.evaluate(() => globalThis.caught), undefined);
  // Without the sandbox the policy alone must do.
  await page.evaluate(
    (bait) =>
      new Promise((resolve) => {
        const frame = document.createElement("iframe");
        frame.srcdoc = bait.replaceAll("caught=", "parent.caught=");
        frame.onload = () => setTimeout(resolve, 300);
        document.body.append(frame);
      }),
    BAIT,
  );
  assert.equal(await page.evaluate(() => globalThis.caught), undefined);
  await context.close();
});

// ---- dead letters -----------------------------------------------------------

test("a_dead_job_is_retried_and_another_dropped", async () => {
  const keep = await deadJob(),
    drop = await deadJob();
  await on({ hash: "#/dead" }, async (page) => {
    await page.getByRole("link", { name: keep }).waitFor();
    await browser.accessible(page, "the dead letters");
    await browser.shot(page, "dead");
    await page.getByRole("link", { name: keep }).click();
    await page.getByText("print('risen')").first().waitFor();
    await page.goBack();
    await page.getByRole("button", { name: `Drop job ${drop}` }).click();
    await page.getByRole("dialog").getByRole("button", { name: "No" }).click();
    assert.equal(await page.getByRole("link", { name: drop }).count(), 1);
    await page.getByRole("button", { name: `Drop job ${drop}` }).click();
    await page.getByRole("dialog").getByRole("button", { name: "Drop" }).click();
    await page.getByRole("link", { name: drop }).waitFor({ state: "detached" });

    breakTemplate(true);
    stage.children.get("worker").kill("SIGHUP");
    await until("the template is mended", () => stage.log("worker").includes("templates reloaded"));
    await page.getByRole("button", { name: `Retry job ${keep}` }).click();
    await page.getByRole("link", { name: keep }).waitFor({ state: "detached" });
    await page.goto(`${stage.url}${jobUrl(keep)}`);
    await badge(page, "ok");
    assert.match(await output(page).textContent(), /risen/);
  });
});

// ---- keys ------------------------------------------------------------------

test("the_key_is_asked_once_and_a_wrong_one_refused", () =>
  on({ url: stage.keyedUrl, network: true }, async (page) => {
    const dialog = page.getByRole("dialog", { name: "This gateway needs a key" });
    await dialog.waitFor();
    await browser.accessible(page, "the key dialog");
    await browser.shot(page, "key");
    await dialog.getByLabel("Key").fill("wrong");
    await page.keyboard.press("Enter");
    await dialog.getByText("This key was not accepted.").waitFor();
    await page.keyboard.press("Escape");
    await page.getByText("A key is needed.").waitFor();
    await page.getByRole("button", { name: "Enter key" }).click();
    await dialog.getByLabel("Key").fill(KEY);
    await page.keyboard.press("Enter");
    await live(page);
    for (const name of ["Jobs", "Dead letters", "Run code"]) {
      await page.getByRole("navigation", { name: "Pages" }).getByRole("link", { name }).click();
      await page.getByRole("heading", { level: 1, name }).waitFor();
      await live(page);
      assert.equal(await dialog.isVisible(), false);
    }
    await page.getByRole("textbox", { name: "Code" }).fill("print('with a key')");
    await page.getByRole("textbox", { name: "Code" }).press("Control+Enter");
    await badge(page, "ok");
    assert.match(await output(page).textContent(), /with a key/);
    const left = await page.evaluate(
      (key) =>
        [
          JSON.stringify(localStorage),
          JSON.stringify(sessionStorage),
          document.cookie,
          location.href,
          document.documentElement.outerHTML,
        ]
          .join()
          .includes(key),
      KEY,
    );
    assert.equal(left, false, "the key lies about");
    await page.getByRole("button", { name: "Forget key" }).click();
    await page.getByText("A key is needed.").waitFor();
    assert.equal(await page.getByRole("button", { name: "Forget key" }).isVisible(), false);
  }));

test("with_the_key_goes_what_it_opened", () =>
  on({ url: stage.keyedUrl, network: true }, async (page) => {
    const dialog = page.getByRole("dialog", { name: "This gateway needs a key" });
    const enter = async () => {
      await dialog.getByLabel("Key").fill(KEY);
      await page.keyboard.press("Enter");
      await live(page);
    };
    const forget = async () => {
      await page.getByRole("button", { name: "Forget key" }).click();
      await page.getByText("A key is needed.").waitFor();
    };
    await enter();
    await pageLink(page, "Run code").click();
    await page.getByRole("textbox", { name: "Code" }).fill("print('a secret')");
    await page.getByRole("textbox", { name: "Code" }).press("Control+Enter");
    await badge(page, "ok");
    await page.getByRole("link", { name: "This job's page" }).click();
    await page.getByRole("group", { name: "Code" }).getByText("a secret").waitFor();
    await forget();
    await page.getByText("Nothing is shown without a key.").waitFor();
    assert.ok(!(await page.locator("main").textContent()).includes("secret"));
    await browser.accessible(page, "the page without a key");
    // The key again, and the job is there again.
    await page.getByRole("button", { name: "Enter key" }).click();
    await enter();
    await page.getByRole("group", { name: "Code" }).getByText("a secret").waitFor();
    await pageLink(page, "Run code").click();
    await page.getByRole("textbox", { name: "Code" }).fill("print('a draft')");
    await forget();
    await page.getByRole("button", { name: "Enter key" }).click();
    await enter();
    await page.getByRole("textbox", { name: "Code" }).waitFor();
    assert.ok(!(await page.getByRole("textbox", { name: "Code" }).inputValue()).includes("draft"));
  }));

test("a_key_that_no_header_takes_is_refused_like_any_wrong_one", () =>
  on({ url: stage.keyedUrl, network: true }, async (page) => {
    const dialog = page.getByRole("dialog", { name: "This gateway needs a key" });
    for (const key of ["correct–horse", "ключ", `${KEY}\u200b`, "é"]) {
      await dialog.getByLabel("Key").fill(key);
      await page.keyboard.press("Enter");
      await dialog.getByText("This key was not accepted.").waitFor();
      assert.equal(await dialog.getByLabel("Key").inputValue(), "");
      assert.equal(await page.evaluate(() => document.activeElement.id), "key");
    }
    // What a paste brings along does not matter.
    await dialog.getByLabel("Key").fill(` \t${KEY}\u00a0 `);
    await page.keyboard.press("Enter");
    await live(page);
  }));

test("a_key_can_be_forgotten_while_nothing_answers", () =>
  on({ url: stage.keyedUrl, network: true }, async (page) => {
    await page.getByRole("dialog").waitFor();
    await page.route(/\/stats$/, (route) => route.abort());
    await page.getByRole("dialog").getByLabel("Key").fill(KEY);
    await page.keyboard.press("Enter");
    await page.getByText("disconnected").waitFor();
    await page.getByRole("button", { name: "Forget key" }).waitFor();
  }));

// ---- trouble ------------------------------------------------------------------

// The gateway looks for queues that nobody serves every ten seconds: this one is
// there from the start, so that its test need not wait.
const orphanQueue = () => stage.redis("lpush", "{capibox}:queue:night", '{"code":"print(1)"}');

test("a_hidden_page_asks_rarely", () =>
  on({}, async (page) => {
    await live(page);
    // Counted from the very moment on: no question is on its way from before.
    await page.evaluate(() => {
      const { fetch } = globalThis;
      Object.defineProperty(document, "hidden", { configurable: true, get: () => true });
      globalThis.asked = 0;
      globalThis.fetch = (...words) => {
        globalThis.asked += /\bstats$/.test(words[0]);
        return fetch(...words);
      };
    });
    const asked = () => page.evaluate(() => globalThis.asked);
    await until("the one that was due", async () => (await asked()) === 1);
    await sleep(4500);
    assert.equal(await asked(), 1);
    await page.evaluate(() => {
      delete document.hidden;
      document.dispatchEvent(new Event("visibilitychange"));
    });
    // By itself it would ask within 20 s.
    await until("it asks at once when it is seen", async () => (await asked()) > 1, 8000);
  }));

test("what_is_broken_comes_first", async () => {
  await on({}, async (page) => {
    await page.getByText("Queue “night” holds 1 job and no worker serves it.").waitFor({ timeout: 14000 });
  });
  stage.redis("del", "{capibox}:queue:night");
});

test("a_pause_needs_attention_and_says_how_to_go_on", async () => {
  stage.redis("hset", "{capibox}:conf", "paused", "1");
  try {
    await on({}, async (page) => {
      const note = page.locator(".trouble li", { hasText: "Paused by an operator: no worker takes a job" });
      await note.waitFor();
      assert.match(await note.textContent(), /redis-cli HSET '\{capibox\}:conf' paused 0/);
      assert.equal(await page.getByText("Nothing needs attention").count(), 0);
      await browser.accessible(page, "a pause", { part: ".trouble" });
      stage.redis("hset", "{capibox}:conf", "paused", "0");
      await note.waitFor({ state: "detached" });
    });
  } finally {
    stage.redis("hset", "{capibox}:conf", "paused", "0");
  }
});

test("redis_away_is_said_and_its_return_noticed", () =>
  on({ network: true }, async (page) => {
    await live(page);
    await stage.stop("redis", "SIGKILL");
    const banner = page.locator("#banner");
    await banner.getByText("cannot reach Redis").waitFor();
    await page.getByText("disconnected").waitFor();
    try {
      await browser.accessible(page, "the page without Redis", { part: "#banner" });
      await browser.shot(page, "redis-away");
    } finally {
      await stage.startRedis();
    }
    await live(page);
    await banner.waitFor({ state: "hidden" });
    // The gateway's connection for the dead letters notices by failing once.
    await until("the dead letters are back", async () => !(await stage.ask("GET", "dead")).error);
  }));

// ---- for everybody ----------------------------------------------------------

const PAGES = [
  ["overview", ""],
  ["jobs", "#/jobs"],
  ["dead", "#/dead"],
  ["run", "#/run"],
];

test("every_control_has_a_name_in_light_and_dark", async () => {
  for (const colorScheme of ["light", "dark"])
    await on({ colorScheme }, async (page) => {
      for (const [name, hash] of PAGES) {
        await page.goto(`${stage.url}${hash}`);
        await live(page);
        await page.locator("main h1").waitFor({ state: "attached" });
        await browser.accessible(page, `${name} in ${colorScheme}`, {
          rules: colorScheme === "dark" ? ["color-contrast"] : null,
        });
        for (const [html, said] of await browser.names(page)) assert.ok(said, `no name: ${html}`);
        await browser.shot(page, `${name}-${colorScheme}`);
      }
    });
});

test("a_phone_shows_it_without_sideways_scrolling", async () => {
  const { jobs } = await stage.ask("GET", "jobs?limit=50");
  const ended = jobs
    .filter((job) => job.finished_at)
    .slice(0, 2)
    .map((job, i) => [`job-${i}`, jobUrl(job.job_id)]);
  await on(
    {
      network: true,
      viewport: { width: 360, height: 740 },
      isMobile: true,
      hasTouch: true,
      deviceScaleFactor: 2,
    },
    async (page) => {
      for (const [name, hash] of [...PAGES, ...ended]) {
        await page.goto(`${stage.url}${hash}`);
        await live(page);
        await page.locator("main h1").waitFor({ state: "attached" });
        await sleep(150);
        const wide = await page.evaluate(() => document.documentElement.scrollWidth);
        assert.ok(wide <= 360, `${name} is ${wide} wide`);
        await browser.shot(page, `${name}-phone`);
      }
    },
  );
});

test("the_keyboard_reaches_everything_and_keeps_its_place", () =>
  on({}, async (page) => {
    await live(page);
    const here = () =>
      page.evaluate(() =>
        (document.activeElement.getAttribute("aria-label") || document.activeElement.textContent).trim(),
      );
    await page.keyboard.press("Tab");
    assert.equal(await here(), "Skip to the content");
    await page.keyboard.press("Enter");
    assert.equal(await page.evaluate(() => document.activeElement.id), "view");
    await page.keyboard.press("Tab");
    await page.keyboard.press("Tab");
    const before = await page.evaluateHandle(() => document.activeElement);
    const outline = await before.evaluate((e) => getComputedStyle(e).outlineStyle);
    assert.equal(outline, "solid");
    // Refreshes later the same element has the focus, and an opened table is open.
    await page.locator("#rate-t").waitFor({ state: "attached" });
    await page.locator("figure summary").first().click();
    await page.locator("figure summary").first().focus();
    const stays = await page.evaluateHandle(() => document.activeElement);
    for (let i = 0; i < 2; i++) await page.waitForResponse(/\/stats$/);
    await sleep(100);
    assert.ok(await stays.evaluate((e) => e === document.activeElement && e.parentElement.open));
  }));

// ---- all of it -----------------------------------------------------------------

const why = await whyNot();
if (why) {
  skipAll("dashboard_in_a_browser", why);
} else {
  let failed = 1;
  stage = new Stage();
  const end = async (signal) => {
    await browser?.close();
    await stage.close();
    process.exit(signal);
  };
  process.once("SIGTERM", () => end(143));
  process.once("SIGINT", () => end(130));
  try {
    breakTemplate(false);
    [browser] = await Promise.all([Browser.open(), stage.open()]);
    stage.seedHour();
    orphanQueue();
    await stage.submit({ template: "visualization", code: "import matplotlib.pyplot" }); // the first one starts cold
    failed = await runAll({ only: process.argv[2], timeoutMs: 60000 });
    if (failed) console.log(stage.logs().replace(/^/gm, "# "));
  } catch (fault) {
    console.log(
      `1..1\nnot ok 1 - dashboard_in_a_browser\n# ${fault.stack}\n${stage.logs().replace(/^/gm, "# ")}`,
    );
  } finally {
    await browser?.close();
    await stage.close();
  }
  process.exit(failed ? 1 : 0);
}
