import concurrent.futures as futures
import queue
import threading
import time
import zlib

lock, total = threading.Lock(), 0


def add(n):
    global total
    for _ in range(n):
        with lock:
            total += 1


threads = [threading.Thread(target=add, args=(1000,)) for _ in range(16)]
for t in threads:
    t.start()
for t in threads:
    t.join()
print(total)
with futures.ThreadPoolExecutor(8) as pool:
    print(list(pool.map(lambda n: zlib.crc32(bytes(n * 10000)) > 0,
                        range(1, 5))))
    waiting = [pool.submit(time.sleep, 0.01) for _ in range(20)]
    print(len(futures.wait(waiting, timeout=30).done))
    print(type(pool.submit(int, "x").exception()).__name__)
with futures.ProcessPoolExecutor(2) as pool:
    print(sum(pool.map(len, ["a", "bb", "ccc"])))
work, ready, barrier = queue.Queue(), threading.Event(), threading.Barrier(3)


def meet():
    barrier.wait(30)
    ready.wait(30)
    work.put(threading.current_thread().name)


for name in ("x", "y", "z"):
    threading.Thread(target=meet, name=name).start()
ready.set()
print(sorted(work.get(timeout=30) for _ in range(3)))
timer = threading.Timer(0.01, work.put, ["rang"])
timer.start()
print(work.get(timeout=30))
