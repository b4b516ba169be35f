"""What a service does and what one may do there, found out before anything rests on it."""

from __future__ import annotations

import contextlib
import uuid
from typing import Final

from cvbatch.errors import AmbiguousError, DeniedError, OutputError, UnavailableError
from cvbatch.storage.buckets import Bucket

_TRIES: Final = 5


def can_delete_objects(bucket: Bucket, prefix: str) -> bool:
    """Whether one may delete below a prefix; asked by deleting something that is not there."""
    try:
        bucket.delete_object(f"{prefix}{uuid.uuid4().hex}")
    except DeniedError:
        return False
    return True


def check_exclusive_create(bucket: Bucket, key: str) -> None:
    """Prove that `create` never writes over an object.

    Args:
        bucket: Where.
        key: Of a tiny object for the proof. It stays there: deleting it could spoil the proof of another start, and
            needs a right that a job can do without.

    Raises:
        OutputError: If the service takes no notice of the condition.
    """
    if _create_once(bucket, key) and _create_once(bucket, key):
        raise OutputError(
            f"{bucket.uri}: expected a service that can create an object only if absent, and this one overwrites it "
            "(it ignores If-None-Match); choose another"
        )


def _create_once(bucket: Bucket, key: str) -> bool:
    for _ in range(_TRIES):
        with contextlib.suppress(AmbiguousError):
            return bucket.create_object(key, uuid.uuid4().hex.encode())
    raise UnavailableError(f"{bucket.uri}: it cannot be found out whether it creates objects only if absent")
