# 005 every signal ignored that can be
# limits: timeout=0.4
# verdict: timeout
# stdout: before
trap '' TERM INT XCPU HUP ALRM QUIT USR1 USR2 PIPE XFSZ TSTP TTIN TTOU
echo before
while :; do :; done
