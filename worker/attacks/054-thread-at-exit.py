# 054 the end of the interpreter does not come: a thread
# limits: timeout=0.6
# verdict: timeout
# stdout: before
import threading
import time
threading.Thread(target=time.sleep, args=(60,)).start()
print("before")
