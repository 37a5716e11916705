"""An ingress in a process of its own, which a test may kill: `python -m tests.door.holding`.

It prints its port, answers every request but those to /hold, and holds these for ever.
"""

from __future__ import annotations

import asyncio

_OK = b'{"status": "ok"}'
_ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()
            return
        if b"/hold" in head.split(b"\r\n")[0]:
            await asyncio.Event().wait()
        writer.write(_ANSWER % (len(_OK), _OK))


async def _main() -> None:
    server = await asyncio.start_server(_serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_main())
