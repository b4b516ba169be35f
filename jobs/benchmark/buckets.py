"""Measures the cost of a bucket: fetching alone, listing, and whole runs, against the same files on disk.

Usage: `python jobs/benchmark/buckets.py FOLDER PHOTOS KEYS TIMES`, with a folder for the server and the outputs, photos
to upload, the number of keys to list, and the number of runs. The server is that of the tests, on loopback and on the
same cores.
"""

from __future__ import annotations

import io
import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import pyarrow as pa
import pyarrow.fs as pafs
import s3fs
from measuring import cvbatch, fresh

from cvbatch.config.job import SourceConfig
from cvbatch.sources import open_source
from cvbatch.sources.fetch.plan_rows import plan_fetches
from cvbatch.storage.fetch_options import FetchOptions
from cvbatch.storage.options import StorageOptions
from tests.rigs.objects import ObjectServer, running_server

_THREADS = 16
_UNIT = 128
_REPEATS = 3
_FOLDERS = 50
_LITE = ("--model", "efficientnet_lite0", "--set", "compute.precision=fp32")


def rate(count: int, work: Callable[[], object]) -> float:
    """The best of several rates, because disturbances only make it slower."""
    rates = []
    for _ in range(_REPEATS):
        started = time.perf_counter()
        work()
        rates.append(count / (time.perf_counter() - started))
    return max(rates)


def fetching(server: ObjectServer, table: pa.Table) -> dict[str, float]:
    """Images per second that are read into memory, without decoding."""
    uris = table["image_uri"].to_pylist()
    fetch_options = FetchOptions(StorageOptions(endpoint_url=server.endpoint))

    def ours() -> None:
        for start in range(0, table.num_rows, _UNIT):
            for read in plan_fetches(table.slice(start, _UNIT), fetch_options):
                read()

    system = s3fs.S3FileSystem(client_kwargs={"endpoint_url": server.endpoint})

    def loop() -> None:
        for uri in uris:
            system.cat_file(uri.removeprefix("s3://"))

    client = server.client()

    def limit() -> None:
        with ThreadPoolExecutor(_THREADS) as pool:
            keys = [uri.removeprefix("s3://").partition("/")[::2] for uri in uris]
            list(pool.map(lambda pair: client.get_object(Bucket=pair[0], Key=pair[1])["Body"].read(), keys))

    return {
        "cvbatch": rate(len(uris), ours),
        "s3fs_loop": rate(len(uris), loop),
        "botocore_16_threads": rate(len(uris), limit),
    }


def listing(server: ObjectServer, bucket: str, keys: int) -> dict[str, float]:
    """Keys per second: of cvbatch, of a client that does not parse the pages, and per CPU second of cvbatch."""
    client, config = server.client(), SourceConfig(uri=f"s3://{bucket}/many", endpoint_url=server.endpoint)
    client.meta.events.register("before-parse.*.ListObjectsV2", _unread)

    def pages(prefix: str) -> int:
        request, count = {"Bucket": bucket, "Prefix": prefix, "MaxKeys": 1000}, 0
        while True:
            body = client.list_objects_v2(**request)["unread"]
            count += body.count(b"<Contents>")
            token = re.search(rb"<NextContinuationToken>(.*?)</", body)
            if token is None:
                return count
            request["ContinuationToken"] = token[1].decode()

    def in_parallel() -> None:
        with ThreadPoolExecutor(_THREADS) as pool:
            assert sum(pool.map(pages, [f"many/{folder:02d}/" for folder in range(_FOLDERS)])) == keys

    def ours() -> None:
        assert sum(chunk.num_rows for chunk in open_source(config).iter_chunks()) == keys

    started = time.process_time()
    ours()
    return {
        "cvbatch_per_cpu_second": keys / (time.process_time() - started),
        "cvbatch": rate(keys, ours),
        "server_alone_one_request": rate(keys, lambda: pages("many/")),
        "server_alone_16_requests": rate(keys, in_parallel),
    }


def _unread(response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: Any) -> None:
    customized_response_dict["unread"], response_dict["body"] = response_dict["body"], b""


def ray_read_images(server: ObjectServer, bucket: str, count: int) -> float:
    """Images per second of Ray Data, which also decodes; without its start."""
    import ray

    ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False)
    system = pafs.S3FileSystem(
        access_key=server.job.key, secret_key=server.job.secret, endpoint_override=server.endpoint, region="us-east-1"
    )

    def work() -> None:
        images = ray.data.read_images(f"{bucket}/photos", filesystem=system, mode="RGB", size=(8, 8))
        assert sum(bundle.num_rows() or 0 for bundle in images.iter_internal_ref_bundles()) == count

    images_per_second = rate(count, work)
    ray.shutdown()
    return images_per_second


def main() -> None:
    """Measure and print JSON."""
    folder, photos, keys, times = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    files = sorted(photos.glob("*.jpg"))
    with running_server(Path(tempfile.mkdtemp(dir=fresh_folder(folder)))) as server:
        os.environ |= {**server.job.environment, "AWS_ENDPOINT_URL": server.endpoint}
        images, out = server.make_bucket("images"), server.make_bucket()
        client = server.client()
        with ThreadPoolExecutor(_THREADS) as pool:
            list(
                pool.map(
                    lambda path: client.put_object(Bucket=images, Key=f"photos/{path.name}", Body=path.read_bytes()),
                    files,
                )
            )
            empty = [f"many/{number % _FOLDERS:02d}/{number:06d}.jpg" for number in range(keys)]
            list(pool.map(lambda key: client.put_object(Bucket=images, Key=key, Body=io.BytesIO(b"x")), empty))
        config = SourceConfig(uri=f"s3://{images}/photos", endpoint_url=server.endpoint)
        table = pa.concat_tables(open_source(config).iter_chunks())
        results: dict[str, Any] = {"images": len(files), "fetching": fetching(server, table), "keys": keys}
        results["keys_per_second"] = listing(server, images, keys)
        results["disk"], results["bucket"] = [cvbatch(photos, folder / "out", *_LITE)], []
        for number in range(times):
            results["bucket"].append(cvbatch(f"s3://{images}/photos", f"s3://{out}/run{number}", *_LITE))
            results["disk"].append(cvbatch(photos, folder / "out", *_LITE))
        results["fetching"]["ray_read_images"] = ray_read_images(server, images, len(files))
    sys.stdout.write(json.dumps(results) + "\n")


def fresh_folder(folder: Path) -> Path:
    """An empty folder for the server."""
    server = fresh(folder / "server")
    server.mkdir(parents=True)
    return server


if __name__ == "__main__":
    main()
