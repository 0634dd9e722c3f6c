import multiprocessing as mp
import os
from multiprocessing import shared_memory


def square(n):
    return n * n


def produce(queue, n):
    for i in range(n):
        queue.put((os.getpid() > 1, i))
    queue.put(None)


def add(total, lock, n):
    for _ in range(n):
        with lock:
            total.value += 1


def fill(name):
    memory = shared_memory.SharedMemory(name=name)
    memory.buf[:5] = b"child"
    memory.close()


def main():
    mp.set_start_method("fork")
    with mp.Pool(4) as pool:
        print(pool.map(square, range(10)))
        print(sorted(pool.imap_unordered(square, range(5))))
        print(pool.apply_async(square, (12,)).get(30))
    queue = mp.Queue()
    producer = mp.Process(target=produce, args=(queue, 5))
    producer.start()
    print(list(iter(queue.get, None)))
    producer.join()
    total, lock = mp.Value("i", 0), mp.Lock()
    adders = [mp.Process(target=add, args=(total, lock, 200))
              for _ in range(3)]
    for adder in adders:
        adder.start()
    for adder in adders:
        adder.join()
    print(total.value, [a.exitcode for a in adders])
    memory = shared_memory.SharedMemory(create=True, size=1 << 20)
    child = mp.Process(target=fill, args=(memory.name,))
    child.start()
    child.join()
    print(bytes(memory.buf[:5]))
    memory.close()
    memory.unlink()
    here, there = mp.Pipe()
    here.send({"a": [1, 2]})
    print(there.recv())
    with mp.Manager() as manager:
        shared = manager.dict(a=1)
        shared["b"] = 2
        print(sorted(shared.items()))


main()
