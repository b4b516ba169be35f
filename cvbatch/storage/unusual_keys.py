"""Reads S3 objects whose keys obstore cannot name: `a//b`, `/a`, `a/`, `a/../b`, control characters.

Such keys are valid in S3 but rare, so botocore's slower client is fast enough.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from cvbatch.storage.location import CONTROL


def is_plain_key(key: str) -> bool:
    """Whether obstore supports the key."""
    return not {"", ".", ".."} & set(key.split("/")) and not CONTROL.search(key)


def head_exact_key(client: Any, bucket: str, key: str) -> tuple[int, str, datetime]:
    """Size in bytes, ETag and modification time of an object."""
    response = client.head_object(Bucket=bucket, Key=key)
    return response["ContentLength"], response["ETag"], response["LastModified"]


def read_exact_key(client: Any, bucket: str, key: str, span: tuple[int, int] | None, etag: str | None) -> bytes:
    """Read an object, or a range of it.

    Args:
        client: A client of botocore.
        bucket: Name of the bucket.
        key: Any key.
        span: Position of the first byte, and of the byte after the last one.
        etag: Version to read; an error if the object has changed since.
    """
    request = {"Bucket": bucket, "Key": key}
    if span is not None:
        request["Range"] = f"bytes={span[0]}-{span[1] - 1}"
    if etag is not None:
        request["IfMatch"] = etag
    return bytes(client.get_object(**request)["Body"].read())
