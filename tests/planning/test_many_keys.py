"""A hundred thousand objects: planned without a gap, and with memory that does not grow with them."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys

import numpy as np
import obstore
import pyarrow as pa
import pytest
from obstore.store import S3Store

from cvbatch.output.store import open_store
from cvbatch.planning.parts import read_plan_part
from cvbatch.planning.plan import load_plan
from cvbatch.schema import ROW_ID
from tests.rigs.objects import REGION, ObjectServer
from tests.samples import job

KEYS = 100_000
_AT_ONCE = 64
_PLANNING = """
import json, resource, sys
from cvbatch.config.job import Job
from cvbatch.planning.listing_checkpoint import ListingCheckpoint
from cvbatch.planning.plan import make_plan
from cvbatch.sources import open_source
from cvbatch.output.store import open_store
from tests.samples import spec

peaks, save = [], ListingCheckpoint.save_checkpoint

def saved(*arguments):
    peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
    save(*arguments)

ListingCheckpoint.save_checkpoint = saved
job = Job.model_validate_json(sys.argv[1])
make_plan(open_store(job.output.location), job, [spec()], open_source(job.source))
print(json.dumps(peaks))
"""


def fill(server: ObjectServer, bucket: str, keys: list[str]) -> None:
    """Put tiny objects, many at once."""
    client = S3Store(
        bucket,
        endpoint=server.endpoint,
        region=REGION,
        access_key_id=server.admin.key,
        secret_access_key=server.admin.secret,
        virtual_hosted_style_request=False,
        client_options={"allow_http": True},
    )

    async def all_of_them() -> None:
        waiting = iter(keys)

        async def some() -> None:
            for key in waiting:
                await obstore.put_async(client, key, b"1")

        await asyncio.gather(*(some() for _ in range(_AT_ONCE)))

    asyncio.run(all_of_them())


@pytest.mark.slow
def test_a_hundred_thousand_keys(as_job: ObjectServer, out: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CVBATCH_CHUNK_ROWS", "5000")
    bucket = as_job.make_bucket("images")
    keys = [f"flat/{number:06d}.jpg" for number in range(KEYS // 2)]
    keys += [f"flat/{number % 40:02d}/{number:06d}.jpg" for number in range(KEYS // 2, KEYS)]
    fill(as_job, bucket, keys)
    there = {"uri": f"s3://{out}/run", "endpoint_url": as_job.endpoint}
    wanted = job(f"s3://{bucket}", source={"endpoint_url": as_job.endpoint}, output=there)
    command = [sys.executable, "-c", _PLANNING, wanted.model_dump_json(by_alias=True)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    peaks = json.loads(done.stdout)
    store = open_store(wanted.output.location)
    plan = load_plan(store)
    assert plan is not None
    assert (plan.rows, plan.complete) == (KEYS, True)
    table = pa.concat_tables([read_plan_part(store, part, [ROW_ID, "image_uri"]) for part in plan.parts])
    assert np.array_equal(table[ROW_ID].to_numpy(), np.arange(KEYS))
    assert set(table["image_uri"].to_pylist()) == {f"s3://{bucket}/{key}" for key in keys}
    # of what comes later only the pages that wait for their turn are in memory
    assert peaks[-1] - peaks[len(peaks) // 2] < 40e6
    assert peaks[len(peaks) // 2 - 2] - peaks[0] < 15e6
