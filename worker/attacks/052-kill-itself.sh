# 052 ending early: kill -9 of itself is no lack of memory
# verdict: signal
# signal: 9
# stdout: before
echo before
kill -9 $$
