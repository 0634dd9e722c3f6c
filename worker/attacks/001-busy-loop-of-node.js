// 001 a loop without an end, in JavaScript
// limits: timeout=1.5 memory_limit_mb=256
// verdict: timeout
// stdout: before
console.log('before');
setTimeout(() => { for (;;); }, 0);
