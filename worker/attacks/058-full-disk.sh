# 058 filling the disk and failing for it
# verdict: disk_limit
# stdout: before
echo before
head -c 100M /dev/zero > big || exit 1
