"""Keys that obstore cannot name: `a//b`, `/a`, `a/`, `a/../b`, control characters. S3 takes them all, and so do we.

They are rare, so a slower client is good enough.
"""

from __future__ import annotations

import re
from typing import Any, Final

from botocore.exceptions import HTTPClientError, IncompleteReadError
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential_jitter

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_ATTEMPTS: Final = 5


def is_plain(key: str) -> bool:
    """Whether obstore can name it."""
    return not {"", ".", ".."} & set(key.split("/")) and not _CONTROL.search(key)


def look_exactly(client: Any, bucket: str, key: str) -> dict[str, Any]:
    """Look at an object with botocore's client; `size`, `e_tag` and `last_modified`."""
    answer = client.head_object(Bucket=bucket, Key=key)
    return {"size": answer["ContentLength"], "e_tag": answer["ETag"], "last_modified": answer["LastModified"]}


def read_exactly(client: Any, bucket: str, key: str, span: tuple[int, int] | None, etag: str | None) -> bytes:
    """Read an object, or a span of it, with botocore's client.

    Args:
        client: It repeats a request, but does not notice when a body breaks off.
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
    broken = retry_if_exception_type((HTTPClientError, IncompleteReadError))
    pauses = wait_exponential_jitter(initial=0.1, max=15)
    patient = Retrying(stop=stop_after_attempt(_ATTEMPTS), wait=pauses, retry=broken, reraise=True)
    return patient(lambda: bytes(client.get_object(**request)["Body"].read()))
