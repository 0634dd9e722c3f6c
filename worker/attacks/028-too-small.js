// 028 less memory than the interpreter needs to work
// limits: memory_limit_mb=16 timeout=3
// verdict: oom setup_failed
// without-cgroup: signal user_error oom setup_failed timeout
const kept = [];
for (let i = 0; i < 64; i++) kept.push(Buffer.alloc(1 << 18, 1));
