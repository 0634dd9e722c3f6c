// stage.mjs -- the built programs on a Redis of their own, for the browser.
import { execFileSync, spawn } from "node:child_process";
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

export const ROOT = new URL("../..", import.meta.url).pathname.replace(/\/$/, "");
export const KEY = "correct-horse-battery-staple";
const BIN = process.env.CAPIBOX_BIN_DIR || join(ROOT, "bin");

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// Asks again until it holds; what it answers then.
export async function until(what, holds, timeoutMs = 15000) {
  for (const end = Date.now() + timeoutMs; ;) {
    let found = false;
    try {
      found = await holds();
    } catch {
      /* not yet */
    }
    if (found) return found;
    if (Date.now() > end) throw new Error(`within ${timeoutMs} ms not: ${what}`);
    await sleep(25);
  }
}

// None that the kernel gives to others who want any: it is used a moment later,
// and again after a restart.
async function freePort() {
  for (;;) {
    const port = 20000 + Math.floor(Math.random() * 10000);
    const server = createServer();
    const free = await new Promise((resolve) => {
      server.once("error", () => resolve(false));
      server.listen(port, "127.0.0.1", () => resolve(true));
    });
    if (!free) continue;
    await new Promise((resolve) => server.close(resolve));
    return port;
  }
}

// Every process: its number, its parent's and its name.
function processes() {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .flatMap((pid) => {
      try {
        const [, name, parent] = /^\d+ \((.*)\) \S (\d+)/s.exec(readFileSync(`/proc/${pid}/stat`, "utf8"));
        return [{ pid: Number(pid), parent: Number(parent), name }];
      } catch {
        return []; // it has ended
      }
    });
}

export class Stage {
  constructor() {
    this.folder = mkdtempSync(join(tmpdir(), "capibox-browser-"));
    this.socket = join(this.folder, "redis.sock");
    this.templates = join(this.folder, "templates");
    this.children = new Map(); // name -> process
    mkdirSync(join(ROOT, "build"), { recursive: true });
    cpSync(join(ROOT, "templates"), this.templates, { recursive: true });
    writeFileSync(join(this.folder, "keys"), `tester:${KEY}\n`, { mode: 0o600 });
  }

  start(name, program, args, settings = {}) {
    const log = openSync(join(this.folder, `${name}.log`), "a");
    const env = {
      PATH: process.env.PATH,
      HOME: process.env.HOME || "/",
      CAPIBOX_REDIS_URL: `unix://${this.socket}`,
      CAPIBOX_TEMPLATES: this.templates,
      ...settings,
    };
    const child = spawn(program, args, { env, stdio: ["ignore", log, log] });
    child.ended = new Promise((resolve) => child.once("exit", resolve));
    this.children.set(name, child);
    return child;
  }

  async stop(name, signal = "SIGTERM") {
    const child = this.children.get(name);
    if (!child) return;
    this.children.delete(name);
    child.kill(signal);
    const late = setTimeout(() => child.kill("SIGKILL"), 8000);
    await child.ended;
    clearTimeout(late);
  }

  // Ends the `sleep` that a job lies in, once it does: so the job goes on when the
  // test says so.
  wake() {
    return until("a job sleeps", () => {
      const all = processes();
      const ours = new Set([this.children.get("worker").pid]);
      for (let before = 0; before < ours.size;) {
        before = ours.size;
        for (const { pid, parent } of all) if (ours.has(parent)) ours.add(pid);
      }
      const asleep = all.filter(({ pid, name }) => ours.has(pid) && name === "sleep");
      for (const { pid } of asleep) process.kill(pid);
      return asleep.length > 0;
    });
  }

  redis(...words) {
    return execFileSync("redis-cli", ["-s", this.socket, ...words], {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "ignore"],
    }).trim();
  }

  async startRedis() {
    this.start("redis", "redis-server", [
      "--port",
      "0",
      "--unixsocket",
      this.socket,
      "--unixsocketperm",
      "700",
      "--dir",
      this.folder,
      "--appendonly",
      "yes",
      "--appendfsync",
      "always",
      "--save",
      "",
    ]);
    await until("redis answers", () => this.redis("ping") === "PONG");
  }

  async startWorker() {
    this.start("worker", join(BIN, "capibox-worker"), ["--warm", "demand", "--concurrency", "4"], {
      CAPIBOX_SHUTDOWN_GRACE: "1",
      CAPIBOX_LEASE_MS: "4000",
    });
    await until("a worker is there", () => this.redis("zcard", "{capibox}:wk") === "1", 30000);
  }

  async startGateway(name, { keyed = false, port = 0 } = {}) {
    port ||= await freePort();
    const settings = { CAPIBOX_API_LISTEN: `127.0.0.1:${port}`, CAPIBOX_SHUTDOWN_GRACE: "1" };
    if (keyed) settings.CAPIBOX_API_KEYS = join(this.folder, "keys");
    this.start(name, join(BIN, "capibox-api"), [], settings);
    const url = `http://127.0.0.1:${port}/`;
    await until(`${name} answers`, async () => (await fetch(`${url}health`)).ok);
    return url;
  }

  async open() {
    await this.startRedis();
    const [url, keyedUrl] = await Promise.all([
      this.startGateway("gateway"),
      this.startGateway("keyed", { keyed: true }),
      this.startWorker(),
    ]);
    Object.assign(this, { url, keyedUrl });
  }

  async ask(method, path, body) {
    const answer = await fetch(`${this.url}api/v1/e2b/${path}`, {
      method,
      headers: { "Content-Type": "application/json" },
      body: body && JSON.stringify(body),
    });
    return answer.json();
  }

  // Submits a job; its id.
  async submit(job) {
    const { job_id: id, error } = await this.ask("POST", "execute", { async: true, stream: true, ...job });
    if (error) throw new Error(error.message);
    return id;
  }

  async ended(id) {
    return until(
      `job ${id} ends`,
      async () => {
        const job = await this.ask("GET", `jobs/${id}`);
        return !["queued", "running", "delayed"].includes(job.status) && job;
      },
      20000,
    );
  }

  // An hour of figures as a busy fleet leaves them: for pictures of the charts.
  seedHour() {
    const now = Math.floor(Date.now() / 60000);
    for (let i = 1; i <= 59; i++) {
      const busy = 20 + Math.round(14 * Math.sin(i / 9) + 6 * Math.sin(i * 1.7));
      const failed = i > 22 && i < 27 ? Math.round(busy * 0.6) : Math.round(busy * 0.06);
      const slow = i > 22 && i < 27 ? 6 : 1;
      this.redis(
        "hset",
        `{capibox}:stats:minute:${now - i}`,
        "total_executions",
        busy,
        "successful_executions",
        busy - failed,
        "failed_executions",
        failed,
        "total_execution_time",
        busy * 0.4,
        "bucket:0.05",
        busy - 6 * slow > 0 ? busy - 6 * slow : 1,
        "bucket:0.25",
        3 * slow,
        "bucket:1",
        2 * slow,
        "bucket:5",
        slow,
        "verdict:ok",
        busy - failed,
        "verdict:user_error",
        failed,
      );
    }
  }

  log(name) {
    return readFileSync(join(this.folder, `${name}.log`), "utf8");
  }

  logs() {
    return ["redis", "worker", "gateway", "keyed"]
      .map((name) => {
        try {
          return `---- ${name}\n${readFileSync(join(this.folder, `${name}.log`), "utf8")
            .split("\n")
            .slice(-15)
            .join("\n")}`;
        } catch {
          return "";
        }
      })
      .join("\n");
  }

  async close() {
    for (const name of ["gateway", "keyed", "worker", "redis"]) await this.stop(name);
    rmSync(this.folder, { recursive: true, force: true });
  }
}
