import asyncio
import sys


async def worker(name, queue, done):
    while True:
        n = await queue.get()
        await asyncio.sleep(0)
        done.append(n * n)
        queue.task_done()


async def queues():
    queue, done = asyncio.Queue(10), []
    workers = [asyncio.create_task(worker(i, queue, done)) for i in range(4)]
    for n in range(50):
        await queue.put(n)
    await queue.join()
    for w in workers:
        w.cancel()
    await asyncio.gather(*workers, return_exceptions=True)
    print("queue", sum(done))


async def child(n):
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "print(int(input()) * 2)",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate(b"%d\n" % n)
    return process.returncode, int(out)


async def shell():
    process = await asyncio.create_subprocess_shell(
        "echo out; echo err >&2; exit 3", stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE)
    return await process.communicate(), process.returncode


async def echo_server():
    async def answer(reader, writer):
        writer.write((await reader.readline()).upper())
        await writer.drain()
        writer.close()

    server = await asyncio.start_unix_server(answer, "/tmp/echo.sock")
    async with server:
        reader, writer = await asyncio.open_unix_connection("/tmp/echo.sock")
        writer.write(b"hello\n")
        answered = await reader.readline()
        writer.close()
        await writer.wait_closed()
        return answered


async def main():
    await queues()
    print("children", await asyncio.gather(*(child(n) for n in range(3))))
    print("shell", await shell())
    print("echo", await echo_server())
    try:
        await asyncio.wait_for(asyncio.sleep(30), 0.05)
    except asyncio.TimeoutError:
        print("timed out")
    print("thread", await asyncio.to_thread(sum, range(10)))


asyncio.run(main())
