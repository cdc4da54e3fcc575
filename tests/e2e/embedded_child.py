"""A process that uses the embedded server, for ``test_embedded_server``: answers each line it is sent.

An empty line asks ``ensure``. Any other line is a statement to execute; the answer holds its first row. On Ctrl-C
the last words are executed before the server is stopped.
"""

import asyncio
import json
import sys
from pathlib import Path

import asyncpg

from tidegate.adapters.database.embedded import EmbeddedServer


async def first_row(server: EmbeddedServer, statement: str) -> list[str]:
    address = {"host": str(server.socket_dir), "port": 5432, "user": server.user, "database": server.database}
    connection = await asyncpg.connect(**address, ssl=False)
    try:
        return [str(value) for value in await connection.fetchrow(statement) or ()]
    finally:
        await connection.close()


async def main(folder: str, last_words: str) -> None:
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    async with await EmbeddedServer.start(Path(folder)) as server:
        row = None
        try:
            while True:
                print(json.dumps({"owner": server.owner, "data": str(server.data_dir), "row": row}), flush=True)
                line = (await lines.readline()).decode()
                if not line:
                    return
                await server.ensure()
                row = await first_row(server, line) if line.strip() else None
        except asyncio.CancelledError:
            if last_words:
                await first_row(server, last_words)
            raise


if __name__ == "__main__":
    if sys.argv[1] == "uvloop":
        import uvloop

        uvloop.run(main(*sys.argv[2:]))
    else:
        asyncio.run(main(*sys.argv[2:]))
