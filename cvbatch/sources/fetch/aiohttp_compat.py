"""Private behaviour of aiohttp, seen with 3.14.5."""

from __future__ import annotations

import aiohttp
from aiohttp.client_reqrep import ConnectionKey
from aiohttp.connector import Connection
from aiohttp.tracing import Trace


class CleanConnector(aiohttp.TCPConnector):
    """Closes idle connections on which something came that nobody asked for.

    aiohttp itself takes that for the answer to the next request (aio-libs/aiohttp issue 13656), and nothing public
    stands between taking a connection from the pool and sending.
    """

    async def _get(self, key: ConnectionKey, traces: list[Trace]) -> Connection | None:
        while (connection := await super()._get(key, traces)) is not None:
            if connection.protocol is not None and not connection.protocol.should_close:
                return connection
            connection.close()
        return None
