import multiprocessing as mp
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import shared_memory


def cube(n):
    return n ** 3


def fill(name, queue):
    memory = shared_memory.SharedMemory(name=name)
    memory.buf[:5] = b"spawn"
    memory.close()
    queue.put("filled")


if __name__ == "__main__":
    context = mp.get_context("spawn")
    with context.Pool(2) as pool:
        print(pool.map(cube, range(6)))
    queue = context.Queue()
    memory = shared_memory.SharedMemory(create=True, size=4096)
    child = context.Process(target=fill, args=(memory.name, queue))
    child.start()
    print(queue.get(timeout=30))
    child.join()
    print(bytes(memory.buf[:5]), child.exitcode)
    memory.close()
    memory.unlink()
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        print(list(pool.map(cube, [2, 3, 4])))
    forkserver = mp.get_context("forkserver")
    with forkserver.Pool(2) as pool:
        print(pool.map(cube, [5, 6]))
