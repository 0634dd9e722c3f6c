'use strict';
// Runs /run/capibox/main.js as the REPL would, in a process of its own.
//
// Starts as `node node_driver.js [args...]` with the result pipe's number in
// CAPIBOX_RESULT_FD. Writes the frames
// of worker/local/wire.h: the last expression's value and what ended the code.
// Nothing in here protects anything: user code shares the process.

const fs = require('fs');
const path = require('path');
const util = require('util');
const vm = require('vm');
const Module = require('module');
const { pathToFileURL } = require('url');

const CODE_NAME = 'main.js';
// What the worker put there for this job; or, without a sandbox, our own folder.
const JOB = fs.existsSync(path.join(__dirname, CODE_NAME)) ?
  __dirname : '/run/capibox';
// As in common/limits.h; tests/integration/test_drivers.c compares.
const ERROR_TEXT_MAX = 4096;
const TRACEBACK_BYTES_MAX = 64 << 10;
const TEXT_BYTES_MAX = 1 << 20;
// Looking for the last expression compiles the code a few times.
const SPLIT_CODE_MAX = 256 << 10;
const SPLIT_TRIES_MAX = 64;
// What node exits with when a top-level await never settles.
const UNSETTLED = 13;
// Of an AggregateError.
const INNER_ERRORS_MAX = 10;

const resultFd = takeResultFd();
let lastMoved = null; // as splitAt() has it, of the code that runs
let mustSettle = false; // an await at the top level has not come back

function takeResultFd() {
  const text = process.env.CAPIBOX_RESULT_FD || '';
  delete process.env.CAPIBOX_RESULT_FD;
  return /^\d+$/.test(text) ? Number(text) : -1;
}

// Well-formed text without NULs, which not every reader of JSON can keep, of at
// most `limit` bytes: the beginning and the end.
function clean(text, limit) {
  text = String(text).replace(/\0/g, '\\x00');
  let raw = Buffer.from(text, 'utf8');
  if (raw.length > limit) {
    const half = (limit - 16) >> 1;
    raw = Buffer.concat([raw.subarray(0, half), Buffer.from('\n[...]\n'),
                         raw.subarray(raw.length - half)]);
    return raw.toString('utf8').replace(/\ufffd/g, '');
  }
  return raw.toString('utf8');
}

function sendFrame(type, payload) {
  if (resultFd < 0) return;
  const body = Buffer.from(payload, 'utf8');
  const frame = Buffer.alloc(5 + body.length);
  frame.write(type, 0, 'latin1');
  frame.writeUInt32LE(body.length, 1);
  body.copy(frame, 5);
  let at = 0;
  while (at < frame.length) {
    try {
      at += fs.writeSync(resultFd, frame, at);
    } catch (error) {
      if (error.code !== 'EAGAIN') return;
    }
  }
}

function isTimer(value) {
  const name = value && value.constructor && value.constructor.name;
  return name === 'Timeout' || name === 'Immediate';
}

function sendResult(value) {
  // A timer is what code ends with that has not ended yet.
  if (value === undefined || isTimer(value)) return;
  sendFrame('R', JSON.stringify({
    text: clean(util.inspect(value), TEXT_BYTES_MAX),
    extra: {},
    is_main_result: true,
  }));
}

function ownLine(line) {
  return line.includes(__filename) || /\(?node:(vm|internal)/.test(line);
}

// import() is called in here, whoever asked for it.
function withoutImporter(text) {
  return String(text).replace(` imported from ${__filename}`, '');
}

// Where the code stands as it was written.
function withoutMove(text) {
  const { line, column, by } = lastMoved;
  return text.replace(/\bmain\.js:(\d+):(\d+)/g, (place, l, c) =>
    Number(l) === line && c > column + by ? `main.js:${l}:${c - by}` : place);
}

function describe(error) {
  if (!util.types.isNativeError(error) && !(error instanceof Error)) {
    const text = util.inspect(error);
    return { name: 'Error', value: text, traceback: `Uncaught ${text}` };
  }
  const lines = withoutImporter(error.stack || error).split('\n');
  // The line that threw stands above, also when it is node's own.
  if (ownLine(lines[0])) lines.splice(0, lines.indexOf('') + 1);
  let traceback = lines.filter((line) => !ownLine(line)).join('\n');
  if (lastMoved) traceback = withoutMove(traceback);
  if (error.cause !== undefined) {
    traceback += `\n[cause]: ${describe(error.cause).traceback}`;
  }
  if (Array.isArray(error.errors)) {
    for (const one of error.errors.slice(0, INNER_ERRORS_MAX)) {
      traceback += `\n[errors]: ${describe(one).traceback}`;
    }
  }
  const value = withoutImporter(error.message);
  return { name: String(error.name), value, traceback };
}

function sendError(error) {
  let seen;
  try {
    seen = describe(error);
  } catch (_) {
    seen = { name: 'Error', value: 'its text failed', traceback: '' };
  }
  sendFrame('E', JSON.stringify({
    name: clean(seen.name, ERROR_TEXT_MAX),
    value: clean(seen.value, ERROR_TEXT_MAX),
    traceback: clean(seen.traceback + '\n', TRACEBACK_BYTES_MAX),
  }));
}

function fail(error) {
  sendError(error);
  process.exit(1);
}

// import() for node before 21.7 and 20.12.
function importFromHere(name) {
  return import(/^\.{0,2}\//.test(name) ?
    pathToFileURL(path.resolve(name)).href : name);
}

function script(code, options) {
  return new vm.Script(code, {
    filename: CODE_NAME,
    importModuleDynamically: vm.constants ?
      vm.constants.USE_MAIN_CONTEXT_DEFAULT_LOADER : importFromHere,
    ...options,
  });
}

// Both ways are called experimental on stderr whenever code imports.
function hushLoader() {
  const emitWarning = process.emitWarning;
  process.emitWarning = function (warning, ...rest) {
    if (!/USE_MAIN_CONTEXT_DEFAULT_LOADER|^VM Modules is/.test(warning)) {
      emitWarning.call(process, warning, ...rest);
    }
  };
}

function compiles(code) {
  try {
    return script(code);
  } catch (_) {
    return null;
  }
}

const ASYNC_OPTIONS = { columnOffset: -'(async () => {'.length };

function wrapped(body) {
  return `(async () => {${body}\n})()`;
}

// Where the last expression of the body of an async function begins, or -1:
// the shortest end of the code that is an expression while what stands before
// it is a body of its own. A module's body may import and export.
function lastExpressionAt(code, isBody) {
  if (code.length > SPLIT_CODE_MAX) return -1;
  const end = code.trimEnd().replace(/;+$/, '').length;
  let at = end;
  for (let tries = 0; tries < SPLIT_TRIES_MAX && at > 0; tries++) {
    at = Math.max(code.lastIndexOf('\n', at - 1),
                  code.lastIndexOf(';', at - 1));
    const head = code.slice(0, at + 1), tail = code.slice(at + 1, end);
    // What begins with one of these may go on with the line above.
    const goesOn = /^\s*[-+*/%.,?:&|^=<>([`]/.test(tail) &&
      !/(^|;)\s*$/.test(head);
    if (tail.trim() !== '' && !goesOn && !/^\s*{/.test(tail) &&
        isBody(`void (${tail}\n)`) && isBody(head)) {
      return at + 1;
    }
  }
  return -1;
}

// Code with `await` (or `return`) at its top level as an async function. Line
// numbers stay what they were.
function compileAsync(code) {
  if (!compiles(wrapped(code))) return null;
  const split = splitAt(code, 'return (', (head) => compiles(wrapped(head)));
  if (!split || !compiles(wrapped(split.code))) {
    return script(wrapped(code), ASYNC_OPTIONS);
  }
  lastMoved = split;
  return script(wrapped(split.code), ASYNC_OPTIONS);
}

// The code with its last expression behind `before`, a word and a bracket, and
// which columns moved by that; null if there is none.
function splitAt(code, before, isBody) {
  const at = lastExpressionAt(code, isBody);
  if (at < 0) return null;
  const end = code.trimEnd().replace(/;+$/, '').length;
  const head = code.slice(0, at);
  return {
    code: `${head}${before}${code.slice(at, end)}\n)`,
    line: head.split('\n').length,
    column: at - head.lastIndexOf('\n') - 1,
    by: before.length,
  };
}

function asModule(code, meta) {
  if (!vm.SourceTextModule) return null;
  try {
    return new vm.SourceTextModule(code, {
      identifier: CODE_NAME,
      importModuleDynamically: importFromHere,
      initializeImportMeta: (own) => {
        own.filename = path.resolve(CODE_NAME);
        own.dirname = process.cwd();
        own.url = pathToFileURL(own.filename).href;
        if (meta) meta.own = own;
      },
    });
  } catch (_) {
    return null;
  }
}

async function linked(name) {
  const found = await importFromHere(name);
  const names = Object.keys(found);
  return new vm.SyntheticModule(names, function () {
    for (const one of names) this.setExport(one, found[one]);
  });
}

// Code that imports or exports: null if it is no module, else what runs it and
// gives its last value.
function compileModule(code) {
  if (!asModule(code)) return null;
  const meta = {};
  const split = splitAt(code, 'import.meta.last = (', asModule);
  let module = split && asModule(split.code, meta);
  if (module) lastMoved = split;
  else module = asModule(code);
  return {
    runInThisContext: async () => {
      await module.link(linked);
      await module.evaluate();
      return meta.own && meta.own.last;
    },
  };
}

// For the eye of realMistake() alone: what only a module may have, blanked.
function withoutImports(code) {
  const blank = (text) => text.replace(/[^\n]/g, ' ');
  return code
    .replace(/^[ \t]*import\b(?!\s*[(.])[^'";]*(['"])[^'"\n]*\1/gm, blank)
    .replace(/^[ \t]*export[ \t]+(default\b)?/gm, blank);
}

// What is wrong with code that is no script: its compiler stops at the first
// `import` or top-level `await`, where the mistake may be another.
function realMistake(code, error) {
  if (!/^await is only valid|^Cannot use import|'export'/.test(error.message)) {
    return error;
  }
  const lines = code.split('\n').length;
  try {
    script(wrapped(withoutImports(code)), ASYNC_OPTIONS);
  } catch (other) {
    const line = /^main\.js:(\d+)/.exec(other.stack);
    if (line && Number(line[1]) <= lines) return other;
  }
  // Something is open at the end, and what we put there closed it.
  try {
    new vm.SourceTextModule(code);
  } catch (other) {
    other.stack = `${CODE_NAME}:${lines}\n\n${other.stack}`;
    return other;
  }
  return error;
}

function compile(code) {
  try {
    return script(code);
  } catch (error) {
    const other = compileAsync(code) || compileModule(code);
    if (!other) throw realMistake(code, error);
    mustSettle = true;
    return other;
  }
}

// As node does it: code whose own `await` can never go on has not come to its
// end. What it called process.exit() for has.
function watchForAwait() {
  let ran = false;
  process.on('beforeExit', () => { ran = true; });
  process.on('exit', (code) => {
    if (!mustSettle || !ran || code !== 0) return;
    sendError(new Error('the code ended while a top-level await was waiting ' +
                        'for what nothing could do any more'));
    process.exitCode = UNSETTLED;
  });
}

function settled(then) {
  return (value) => {
    mustSettle = false;
    then(value);
  };
}

function setUpGlobals() {
  const file = path.join(process.cwd(), CODE_NAME);
  const main = new Module(file, null);
  main.filename = file;
  main.paths = Module._nodeModulePaths(process.cwd());
  process.mainModule = main;
  const require = Module.createRequire(file);
  require.main = main;
  const names = {
    require, module: main, exports: main.exports,
    __filename: file, __dirname: path.dirname(file),
  };
  for (const [name, value] of Object.entries(names)) {
    Object.defineProperty(globalThis, name, {
      value, writable: true, configurable: true, enumerable: false,
    });
  }
  process.argv[1] = file;
}

function onUncaught(error) {
  if (process.listenerCount('uncaughtException') > 0) {
    process.emit('uncaughtException', error, 'uncaughtException');
  } else {
    fail(error);
  }
}

function main() {
  let code = fs.readFileSync(path.join(JOB, CODE_NAME), 'utf8');
  if (code.charCodeAt(0) === 0xFEFF) code = code.slice(1);
  setUpGlobals();
  hushLoader();
  process.setUncaughtExceptionCaptureCallback(onUncaught);
  watchForAwait();
  const value = compile(code).runInThisContext();
  if (util.types.isPromise(value)) {
    value.then(settled(sendResult), settled(onUncaught));
  } else {
    sendResult(value);
  }
}

main();
