# 009 processes that are gone before one can look at them
# limits: timeout=0.6
# verdict: timeout pids_limit
import os
if os.fork() == 0:
    while True:
        try:
            if os.fork():
                os._exit(0)
        except OSError:
            pass
while True:
    try:
        os.wait()
    except OSError:
        pass
