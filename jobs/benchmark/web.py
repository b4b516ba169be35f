"""Measures the web client: images per second and CPU time per image, over plain and encrypted connections.

Usage: `python jobs/benchmark/web.py [IMAGES]`. The server is a process of its own on loopback, so it takes a part of
the same cores, and it keeps connections open. Only fetching is measured, nothing is decoded.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import ssl
import statistics
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from cvbatch.sources.fetch.prefetch import Prefetcher
from cvbatch.storage.fetch_options import FetchOptions
from cvbatch.storage.http_hosts import HttpOptions
from tests.rigs.web import make_certificate

_IMAGE_BYTES = 84_000
_REPEATS = 5


def serve_images(port_sender: Connection, certificate_folder: str | None) -> None:
    """Answer every request with the same bytes, on connections that stay open."""
    body = os.urandom(_IMAGE_BYTES)
    response = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(response)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def serve() -> None:
        context = None
        if certificate_folder is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(f"{certificate_folder}/certificate.pem", f"{certificate_folder}/key.pem")
        server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context, backlog=256)
        port_sender.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(serve())


def measure_fetching(scheme: str, images: int, certificate_folder: str | None) -> dict[str, float]:
    """Images per second and CPU microseconds of the client per image: medians of several repeats in one process."""
    port_receiver, port_sender = multiprocessing.Pipe(duplex=False)
    server = multiprocessing.Process(target=serve_images, args=(port_sender, certificate_folder), daemon=True)
    server.start()
    try:
        port = port_receiver.recv()
        options = FetchOptions(http=HttpOptions((f"127.0.0.1:{port}",), private=True))
        locations = [f"{scheme}://127.0.0.1:{port}/{index}.jpg".encode() for index in range(images)]
        seconds, cpu_seconds = [], []
        for _ in range(1 + _REPEATS):
            started, cpu_started = time.perf_counter(), time.process_time()
            prefetcher = Prefetcher(options)
            for read in [prefetcher.prefetch_image(location, None, lambda: None) for location in locations]:
                assert len(read()) == _IMAGE_BYTES
            seconds.append(time.perf_counter() - started)
            cpu_seconds.append(time.process_time() - cpu_started)
    finally:
        server.terminate()
        server.join()
    return {  # the first repeat opens the connections
        "images_per_second": round(images / statistics.median(seconds[1:])),
        "cpu_microseconds_per_image": round(statistics.median(cpu_seconds[1:]) / images * 1e6),
    }


def main() -> None:
    """Measure both and print them as JSON."""
    images = int(sys.argv[1]) if len(sys.argv) > 1 else 3000
    with tempfile.TemporaryDirectory() as folder:
        certificate, _ = make_certificate(Path(folder), "127.0.0.1")
        os.environ["SSL_CERT_FILE"] = str(certificate)
        results = {
            "http": measure_fetching("http", images, None),
            "https": measure_fetching("https", images, folder),
        }
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
