// 016 buffers of node that grow
// limits: memory_limit_mb=128
// verdict: oom
// without-cgroup: signal user_error
// stdout: before
console.log('before');
setTimeout(() => {
  const kept = [];
  for (;;) kept.push(Buffer.alloc(1 << 20, 1));
}, 10);
