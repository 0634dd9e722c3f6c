# 076 a disk larger than the memory
# limits: memory_limit_mb=64 disk_limit_mb=512
# verdict: oom
# without-cgroup: none
head -c 1G /dev/zero > big
echo not reached
