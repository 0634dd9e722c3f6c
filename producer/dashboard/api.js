// api.js -- the gateway's routes. The key lives in this module and nowhere else.

const ROOT = "api/v1/e2b/";
let key = "";
let asking = null; // the dialog that is open, as a promise
let declined = false;
let ask = async () => null;

export class Failure extends Error {
  constructor(status, error, retryAfter) {
    super(error.message || `the gateway answered ${status}`);
    this.status = status; // 0: no answer at all
    this.code = error.code || "";
    this.field = error.field || "";
    this.retryAfter = retryAfter;
  }
}

// asker(wrong) shows the dialog and answers a key, or null.
export const setAsker = (asker) => {
  ask = asker;
};
export const hasKey = () => key !== "";
export const forgetKey = () => {
  key = "";
  declined = true;
};
export const wantKey = () => {
  declined = false;
};

// A header takes no character above U+00FF and no control: such a key is wrong,
// though fetch would only say that it failed.
function fitsHeader(text) {
  try {
    new Headers({ Authorization: `Bearer ${text}` });
    return true;
  } catch {
    return false;
  }
}

async function askUntilUsable(wrong) {
  let given = await ask(wrong);
  while (given !== null && !fitsHeader(given)) given = await ask(true);
  return given;
}

// One dialog for all requests that found the door shut. True: try again.
async function newKey(used) {
  if (key !== used) return true; // somebody else was given one meanwhile
  if (declined) return false;
  asking ||= askUntilUsable(used !== "").finally(() => {
    asking = null;
  });
  const given = await asking;
  if (given === null) declined = true;
  else key = given;
  return given !== null;
}

async function failureOf(response) {
  let error = {};
  try {
    error = (await response.json()).error || {};
  } catch {
    /* no JSON: a proxy's page, maybe */
  }
  return new Failure(response.status, error, Number(response.headers.get("Retry-After")) || 0);
}

async function request(method, path, { body, signal, headers } = {}) {
  for (;;) {
    const used = key;
    const all = { ...headers };
    if (used) all.Authorization = `Bearer ${used}`;
    if (body !== undefined) all["Content-Type"] = "application/json";
    let response;
    try {
      response = await fetch(ROOT + path, {
        method,
        headers: all,
        signal,
        cache: "no-store",
        body: body === undefined ? undefined : JSON.stringify(body),
      });
    } catch (fault) {
      if (signal?.aborted) throw fault;
      throw new Failure(0, { message: "the gateway does not answer" }, 0);
    }
    if (response.ok) return response;
    if (response.status !== 401 || !(await newKey(used))) throw await failureOf(response);
  }
}

const json = async (...args) => (await request(...args)).json();
const job = (id) => `jobs/${encodeURIComponent(id)}`;
const dead = (id) => `dead/${encodeURIComponent(id)}`;

export const getStats = () => json("GET", "stats");
export const getTemplates = () => json("GET", "templates");
export const getJobs = (limit) => json("GET", `jobs?limit=${limit}`);
export const getJob = (id, signal) => json("GET", job(id), { signal });
export const cancelJob = (id) => json("DELETE", job(id));
export const getDead = (from, limit) => json("GET", `dead?from=${from}&limit=${limit}`);
export const getDeadOne = (id) => json("GET", dead(id));
export const retryDead = (id) => json("POST", `${dead(id)}/retry`);
export const dropDead = (id) => json("DELETE", dead(id));
export const submit = (body) => json("POST", body.task_type ? "dynamic" : "execute", { body });

// ---- server-sent events ---------------------------------------------------
// EventSource can send no key, so the stream is read by hand.

export const pause = (ms, signal) =>
  new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener(
      "abort",
      () => {
        clearTimeout(timer);
        resolve();
      },
      { once: true },
    );
  });

function takeLine(event, line) {
  const [, field, value] = /^([^:]*):? ?(.*)$/s.exec(line);
  if (field === "data") event.data.push(value);
  else if (field === "event") event.type = value;
  else if (field === "id") event.id = value;
}

async function* eventsOf(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let event = { type: "message", data: [] };
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      if (line !== "") {
        takeLine(event, line);
        continue;
      }
      if (event.data.length) yield { ...event, data: JSON.parse(event.data.join("\n")) };
      event = { type: "message", data: [] };
    }
  }
}

// Calls take(type, data) for each event of a job, in order and once each,
// through lost connections, until `end`. away(true/false) tells of those.
export async function follow(id, { take, away, signal }) {
  let last = "";
  for (let wait = 500; !signal.aborted; wait = Math.min(wait * 2, 8000)) {
    try {
      const response = await request("GET", `${job(id)}/events`, {
        signal,
        headers: last ? { "Last-Event-ID": last } : {},
      });
      away?.(false);
      for await (const event of eventsOf(response.body)) {
        wait = 500;
        if (event.id) last = event.id;
        take(event.type, event.data);
        if (event.type === "end") return;
      }
    } catch (fault) {
      if (signal.aborted) return;
      if (fault instanceof Failure && fault.status >= 400 && fault.status < 500 && fault.status !== 429)
        throw fault;
      away?.(true);
      if (fault.retryAfter) wait = Math.max(wait, fault.retryAfter * 1000);
    }
    await pause(wait, signal);
  }
}
