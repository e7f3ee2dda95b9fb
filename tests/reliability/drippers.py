"""Slow clients: half send their headers, half their body, at a byte per second, until they are disconnected.

python -m tests.reliability.drippers URL COUNT

A separate process, so that it does not slow down the measured clients. Prints a line when all are connected, and at the
end the seconds until headers and bodies were cut off, as JSON.
"""

import asyncio
import json
import random
import sys
import time

_EVERY_S = 1.0
_AT_ONCE = 50


async def drip(host: str, port: int, *, in_body: bool, connected: asyncio.Semaphore) -> float:
    """Return the seconds until the connection was closed."""
    async with connected:
        reader, writer = await asyncio.open_connection(host, port)
    started = time.monotonic()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    writer.write(head + b"content-length: 1000\r\n\r\n" if in_body else head + b"x-slow: ")
    ended = asyncio.create_task(reader.read(1))
    await asyncio.sleep(random.random() * _EVERY_S)
    try:
        while not ended.done():
            writer.write(b"x")
            await asyncio.wait((ended,), timeout=_EVERY_S)
        return time.monotonic() - started
    finally:
        await asyncio.gather(ended, return_exceptions=True)
        writer.transport.abort()


async def main(url: str, count: int) -> None:
    host, port = url.removeprefix("http://").split(":")
    connected = asyncio.Semaphore(_AT_ONCE)
    tasks = [
        asyncio.create_task(drip(host, int(port), in_body=number % 2 == 1, connected=connected))
        for number in range(count)
    ]
    await asyncio.sleep(0.5)
    while connected.locked():
        await asyncio.sleep(0.1)
    print("all dripping", flush=True)
    seconds = await asyncio.gather(*tasks)
    print(json.dumps([seconds[0::2], seconds[1::2]]), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
