"""An HTTP server whose answers wait: slow_server.py PORT SECONDS [ADDRESS]. With an address only what came to that one waits."""
import asyncio
import resource
import sys

PORT, SECONDS, SLOW = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else ""
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


async def serve(reader, writer):
    waits = not SLOW or writer.get_extra_info("sockname")[0] == SLOW
    try:
        while True:
            await reader.readuntil(b"\r\n\r\n")
            if waits:
                await asyncio.sleep(SECONDS)
            writer.write(ANSWER)
            await writer.drain()
    except (OSError, asyncio.IncompleteReadError):
        writer.close()


async def main():
    server = await asyncio.start_server(serve, "0.0.0.0", PORT, backlog=4096)
    async with server:
        await server.serve_forever()

resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
asyncio.run(main())
