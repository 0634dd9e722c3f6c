# 029 the fork bomb of the shell
# limits: timeout=0.7
# verdict: timeout pids_limit
:(){ :|:& };:
sleep 30
