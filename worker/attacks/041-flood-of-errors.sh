# 041 a flood on standard error
# verdict: output_limit
# stdout: before
echo before
yes >&2
