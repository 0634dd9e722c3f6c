# 020 memory as files in /dev/shm
# limits: memory_limit_mb=64 disk_limit_mb=256
# verdict: oom
# without-cgroup: none
head -c 200M /dev/zero > /dev/shm/big
echo not reached
