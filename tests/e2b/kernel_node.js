'use strict';
// The JavaScript kernel of the interpreter's double: frames as in
// kernel_python.py over descriptor 3. One node per context. In braces: names of
// `node -e` would be names of the code's, too.

{
const fs = require('fs');
const util = require('util');
const vm = require('vm');

const FD = 3;
let count = 0;

function send(kind, payload) {
  const body = Buffer.from(payload, 'utf8');
  const frame = Buffer.alloc(5 + body.length);
  frame.write(kind, 0, 'latin1');
  frame.writeUInt32LE(body.length, 1);
  body.copy(frame, 5);
  for (let at = 0; at < frame.length;) {
    try {
      at += fs.writeSync(FD, frame, at);
    } catch (error) {
      if (error.code !== 'EAGAIN') process.exit(0);
    }
  }
}

function readAll(size) {
  const out = Buffer.alloc(size);
  for (let at = 0; at < size;) {
    const got = fs.readSync(FD, out, at, size - at);
    if (got === 0) process.exit(0);
    at += got;
  }
  return out;
}

for (const [stream, kind] of [[process.stdout, 'O'], [process.stderr, 'E']]) {
  stream.write = (data, encoding, done) => {
    send(kind, typeof data === 'string' ? data : Buffer.from(data));
    const after = typeof encoding === 'function' ? encoding : done;
    if (typeof after === 'function') process.nextTick(after);
    return true;
  };
}

global.require = require;
global.module = { exports: {} };
global.exports = global.module.exports;

function report(error) {
  const isError = error instanceof Error || util.types.isNativeError(error);
  send('F', JSON.stringify({
    name: isError ? String(error.name) : 'Error',
    value: isError ? String(error.message) : util.inspect(error),
    traceback: isError ? String(error.stack) : util.inspect(error),
  }));
}

// `let` and `const` of an earlier cell are kept by the context; await needs a
// function around it.
async function evaluate(code) {
  const options = { filename: `[${count}]` };
  let script;
  try {
    script = new vm.Script(code, options);
  } catch (error) {
    if (!/\bawait\b/.test(code)) throw error;
    let wrapped;
    try {
      wrapped = new vm.Script(`(async () => (${code}\n))()`, options);
    } catch {
      wrapped = new vm.Script(`(async () => {${code}\n})()`, options);
    }
    return wrapped.runInThisContext({ breakOnSigint: true });
  }
  return script.runInThisContext({ breakOnSigint: true });
}

let broken = null; // rejects the cell that runs
process.on('uncaughtException', (error) => broken && broken(error));
process.on('unhandledRejection', (error) => broken && broken(error));
process.on('SIGINT', () => broken && broken(new Error('Interrupted')));

async function run(cell) {
  count = cell.count;
  send('C', String(count));
  try {
    const value = await Promise.race([
      evaluate(cell.code),
      new Promise((_, reject) => { broken = reject; }),
    ]);
    if (value !== undefined) {
      send('R', JSON.stringify({
        text: util.inspect(value), extra: {}, is_main_result: true,
      }));
    }
  } catch (error) {
    report(error);
  }
  broken = null;
  send('D', '');
}

// Reading blocks the loop, so only what the last cell left running in it and
// has ended by itself is seen; timers go on during the next cell.
(async () => {
  for (;;) {
    const head = readAll(5);
    const body = readAll(head.readUInt32LE(1));
    await run(JSON.parse(body.toString('utf8')));
    await new Promise(setImmediate);
  }
})();
}
