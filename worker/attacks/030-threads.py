# 030 a million threads
# limits: pids_limit=24
# verdict: pids_limit
import threading
import time
for i in range(10**6):
    threading.Thread(target=time.sleep, args=(30,), daemon=True).start()
