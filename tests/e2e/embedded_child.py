"""A process that uses the embedded server, for ``test_embedded_server``: answers each line it is sent.

An empty line asks ``ensure``. Any other line is a statement to execute; the answer holds its first row.
"""

import asyncio
import json
import os
import sys
from pathlib import Path

import asyncpg

from tidegate.adapters.database.embedded import EmbeddedServer


async def main(folder: str, pg_bin: str = "") -> None:
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    async with await EmbeddedServer.start(Path(folder), pg_bin=Path(pg_bin) if pg_bin else None) as server:
        row = None
        while True:
            state = {"owner": server.owner, "data": str(server.data_dir), "socket": str(server.socket_dir), "row": row}
            print(json.dumps({**state, "uid": os.geteuid()}), flush=True)
            line = (await lines.readline()).decode()
            if not line:
                return
            await server.ensure()
            row = None
            if line.strip():
                address = {"host": str(server.socket_dir), "port": 5432, "user": server.user}
                connection = await asyncpg.connect(**address, database=server.database, ssl=False)
                row = [str(value) for value in await connection.fetchrow(line) or ()]
                await connection.close()


if __name__ == "__main__":
    if sys.argv[1] == "uvloop":
        import uvloop

        uvloop.run(main(*sys.argv[2:]))
    else:
        asyncio.run(main(*sys.argv[2:]))
