"""Keys that obstore cannot name: `a//b`, `/a`, `a/`, `a/../b`, control characters. S3 takes them all, and so do we.

They are rare, so botocore's slower client is good enough.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from cvbatch.storage.location import CONTROL


def is_plain_key(key: str) -> bool:
    """Whether obstore can name it."""
    return not {"", ".", ".."} & set(key.split("/")) and not CONTROL.search(key)


def head_exact_key(client: Any, bucket: str, key: str) -> tuple[int, str, datetime]:
    """Size in bytes, tag and time of an object."""
    answer = client.head_object(Bucket=bucket, Key=key)
    return answer["ContentLength"], answer["ETag"], answer["LastModified"]


def read_exact_key(client: Any, bucket: str, key: str, span: tuple[int, int] | None, etag: str | None) -> bytes:
    """Read an object, or a span of it.

    Args:
        client: Of botocore.
        bucket: Its name.
        key: Any key.
        span: First byte, and the one after the last.
        etag: Only of this version.
    """
    request = {"Bucket": bucket, "Key": key}
    if span is not None:
        request["Range"] = f"bytes={span[0]}-{span[1] - 1}"
    if etag is not None:
        request["IfMatch"] = etag
    return bytes(client.get_object(**request)["Body"].read())
