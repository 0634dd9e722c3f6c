// 108 random numbers of JavaScript that other jobs get as well
// times: 3
// differ
// verdict: ok
const crypto = require('crypto');
console.log(Math.random());
console.log(crypto.randomUUID());
console.log(crypto.randomBytes(16).toString('hex'));
