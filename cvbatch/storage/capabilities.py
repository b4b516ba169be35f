"""Tests of what a service supports and what this job has the right to do, before a run depends on it."""

from __future__ import annotations

import contextlib
import uuid
from typing import Final

from cvbatch.errors import AmbiguousError, DeniedError, OutputError, UnavailableError
from cvbatch.storage.buckets import Bucket

_MAX_TRIES: Final = 5


def can_delete_objects(bucket: Bucket, prefix: str) -> bool:
    """Whether this job may delete objects below a prefix; tested by deleting a key that does not exist."""
    try:
        bucket.delete_object(f"{prefix}{uuid.uuid4().hex}")
    except DeniedError:
        return False
    return True


def check_exclusive_create(bucket: Bucket, key: str) -> None:
    """Check that `create_object` never overwrites an object.

    Args:
        bucket: Bucket to test.
        key: Key of a small object for the test. It is not deleted: that could break the test of another attempt, and
            needs a right that a job can do without.

    Raises:
        OutputError: If the service ignores the condition.
    """
    if _create_once(bucket, key) and _create_once(bucket, key):
        raise OutputError(
            f"{bucket.uri}: expected a service that can create an object only if absent, got one that overwrites it "
            "(it ignores If-None-Match); choose another output"
        )


def _create_once(bucket: Bucket, key: str) -> bool:
    for _ in range(_MAX_TRIES):
        with contextlib.suppress(AmbiguousError):
            return bucket.create_object(key, uuid.uuid4().hex.encode())
    raise UnavailableError(
        f"{bucket.uri}: cannot find out whether it creates objects only if absent, as no request got a clear response; "
        "try again later"
    )
