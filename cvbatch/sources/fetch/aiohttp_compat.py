"""Private behaviour of aiohttp, checked with version 3.14.5."""

from __future__ import annotations

import aiohttp
from aiohttp.client_reqrep import ConnectionKey
from aiohttp.connector import Connection
from aiohttp.tracing import Trace


class CleanConnector(aiohttp.TCPConnector):
    """Closes idle connections that received unsolicited data.

    aiohttp treats such data as the response to the next request (aio-libs/aiohttp issue 13656). It has no public hook
    between taking a connection from the pool and sending.
    """

    async def _get(self, key: ConnectionKey, traces: list[Trace]) -> Connection | None:
        while (connection := await super()._get(key, traces)) is not None:
            if connection.protocol is not None and not connection.protocol.should_close:
                return connection
            connection.close()
        return None
