// tap.mjs -- tests as tests/run.sh counts them. A name is a sentence about
// behaviour, with underscores, as in the C tests.
const tests = [];
export const test = (name, run) => {
  tests.push({ name, run });
};

const within = (promise, ms) => {
  let timer;
  return Promise.race([
    promise,
    new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Error(`no end after ${ms} ms`)), ms);
    }),
  ]).finally(() => clearTimeout(timer));
};

export function skipAll(name, why) {
  console.log(`1..1\nSKIP: ${why}\nok 1 - ${name}`);
}

// One after the other; how many failed.
export async function runAll({ only, timeoutMs }) {
  const chosen = tests.filter(({ name }) => !only || name.includes(only));
  let failed = 0;
  console.log(`1..${chosen.length}`);
  for (const [i, { name, run }] of chosen.entries()) {
    const begun = Date.now();
    try {
      await within(run(), timeoutMs);
      console.log(`ok ${i + 1} - ${name}`);
    } catch (fault) {
      failed++;
      console.log(`not ok ${i + 1} - ${name}`);
      for (const line of String(fault.stack || fault).split("\n")) console.log(`# ${line}`);
    }
    if (process.env.BROWSER_TIMES) console.log(`# ${name}: ${Date.now() - begun} ms`);
  }
  return failed;
}
