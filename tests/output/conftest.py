"""Stores on the real object server."""

from __future__ import annotations

import uuid

import pytest

from cvbatch.output.object_store import ObjectStore
from cvbatch.storage.location import Location
from cvbatch.storage.options import StorageOptions
from tests.rigs.faults import FaultProxy
from tests.rigs.objects import ObjectServer


@pytest.fixture
def object_store(as_job: ObjectServer, out: str) -> ObjectStore:
    """An empty output in a bucket, with the rights of a job."""
    # of its own, because the server keeps the folders of what is deleted
    uri = f"s3://{out}/{uuid.uuid4().hex}/run/"
    return ObjectStore(Location.from_uri(uri, StorageOptions(endpoint_url=as_job.endpoint)))


@pytest.fixture
def faulty_store(object_store: ObjectStore, faults: FaultProxy) -> ObjectStore:
    """The same output, on a way on which things go wrong."""
    return ObjectStore(Location.from_uri(object_store.root, StorageOptions(endpoint_url=faults.endpoint)))
