# 029 forking without an end
# limits: pids_limit=24
# verdict: pids_limit
import os
while True:
    os.fork()
