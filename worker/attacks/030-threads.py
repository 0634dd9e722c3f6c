# 030 a million threads
# limits: pids_limit=16 memory_limit_mb=384
# verdict: pids_limit
# without-cgroup: user_error pids_limit
import threading
import time
for i in range(10**6):
    threading.Thread(target=time.sleep, args=(30,), daemon=True).start()
