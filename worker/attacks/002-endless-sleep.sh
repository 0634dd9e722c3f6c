# 002 sleeping for ever
# limits: timeout=0.4
# verdict: timeout
# stdout: before
echo before
sleep 1000000000
