// browser.mjs -- a real Chromium, and what a page did that it should not have.
import { existsSync, mkdirSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { join } from "node:path";
import { ROOT } from "./stage.mjs";

const PROGRAM = process.env.CHROMIUM || "/usr/bin/chromium";
const SHOTS = join(ROOT, "build", "screenshots");
const require = createRequire(import.meta.url);

// Why there can be no test in a browser here, or null.
export async function whyNot() {
  if (!existsSync(PROGRAM)) return `no ${PROGRAM}; sh tests/browser/install.sh gets it`;
  try {
    await import("playwright-core");
    require.resolve("axe-core");
  } catch {
    return "playwright-core or axe-core is not installed; sh tests/browser/install.sh gets them";
  }
  return null;
}

// The network's own lines in the console: a test that takes the gateway away or
// gives a wrong key causes them, and no page can prevent them.
const NETWORK = /^Failed to load resource|net::ERR_|ERR_INCOMPLETE_CHUNKED_ENCODING/;

export class Browser {
  static async open() {
    const { chromium } = await import("playwright-core");
    const self = new Browser();
    self.chromium = await chromium.launch({
      executablePath: PROGRAM,
      args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking"],
    });
    self.axe = await readFile(require.resolve("axe-core/axe.min.js"), "utf8");
    mkdirSync(SHOTS, { recursive: true });
    return self;
  }

  close() {
    return this.chromium.close();
  }

  // A page of its own, closed after use(page). It may neither complain nor ask
  // anybody but the gateway; network: lines of the network are expected.
  async with(options, use) {
    const { url, network = false, ...more } = options;
    const context = await this.chromium.newContext({
      viewport: { width: 1280, height: 860 },
      reducedMotion: "reduce",
      acceptDownloads: true,
      ...more,
    });
    const page = await context.newPage();
    const faults = [];
    page.on("console", (line) => {
      if (["error", "warning"].includes(line.type()) && !(network && NETWORK.test(line.text())))
        faults.push(`console: ${line.text()}`);
    });
    page.on("pageerror", (fault) => faults.push(`exception: ${fault.stack || fault}`));
    page.on("request", (request) => {
      if (!/^(data|blob|about):/.test(request.url()) && !request.url().startsWith(url))
        faults.push(`asked elsewhere: ${request.url()}`);
    });
    page.setDefaultTimeout(15000);
    try {
      await page.goto(`${url}${options.hash || ""}`);
      await use(page);
    } catch (fault) {
      fault.stack += `\n${faults.join("\n")}\n${(
        await page
          .locator("main")
          .innerText({ timeout: 500 })
          .catch(() => "")
      )
        .replace(/\s+/g, " ")
        .slice(0, 700)}`;
      throw fault;
    } finally {
      await context.close();
    }
    if (faults.length) throw new Error(`the page complained:\n${faults.join("\n")}`);
  }

  shot(page, name) {
    return page.screenshot({ path: join(SHOTS, `${name}.png`), fullPage: true });
  }

  // Everything axe-core knows, its advice included.
  async accessible(page, what, { part = "body", rules = null } = {}) {
    await page.evaluate(this.axe); // addScriptTag would need a laxer policy
    const found = await page.evaluate(
      async ([root, only]) => {
        const { violations } = await globalThis.axe.run(root, {
          resultTypes: ["violations"],
          preload: false,
          iframes: false,
          runOnly: only || ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
        });
        return violations.map(
          ({ id, help, nodes }) =>
            `${id}: ${help}\n  ${nodes.map((n) => `${n.html} (${n.failureSummary})`).join("\n  ")}`,
        );
      },
      [part, rules],
    );
    if (found.length) throw new Error(`${what} is not accessible:\n${found.join("\n")}`);
  }

  // Of every control of the page: the name a screen reader says.
  async names(page) {
    return page.evaluate(() =>
      [...document.querySelectorAll("a[href], button, input, select, textarea, summary")]
        .filter((e) => e.checkVisibility())
        .map((e) => [
          e.outerHTML.slice(0, 120),
          (e.getAttribute("aria-label") || e.labels?.[0]?.textContent || e.textContent || "").trim(),
        ]),
    );
  }
}
