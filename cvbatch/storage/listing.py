"""Lists buckets: pages as Arrow batches, with unchanged keys.

botocore's client lists S3, and this module parses the pages. obstore cannot replace it: one key with `//`, `.` or a
control character makes its whole listing fail, and it renames `folder/` to `folder` and `/key` to `key`. botocore's own
parser takes 130 ms of CPU for a page of 1,000 keys, this one 5.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote_plus

import obstore
import pyarrow as pa
import pyarrow.compute as pc

from cvbatch.errors import UnavailableError
from cvbatch.storage.botocore_compat import body_of, take_bodies
from cvbatch.storage.retry import with_retries
from cvbatch.system.environment import EnvironmentNumber

if TYPE_CHECKING:
    from obstore import ObjectMeta

_TIME: Final = pa.timestamp("us", "UTC")
SCHEMA: Final = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("etag", pa.string()),
        pa.field("last_modified", _TIME),
    ]
)
"""Columns of a listing, with one row per object; times as the service reports them."""
_PAGE_KEYS: Final = EnvironmentNumber("CVBATCH_LISTING_PAGE_KEYS", 1000, minimum=1)
"""Maximum number of keys per request; services return at most 1,000."""
_FIELDS: Final = ("Key", "Size", "ETag", "LastModified")


@dataclass(frozen=True, slots=True)
class ListingPage:
    """One page of a listing."""

    objects: pa.RecordBatch
    """Columns of `SCHEMA`."""
    folders: list[str]
    """Prefixes of the next level."""
    last_key: bool
    """Whether the service reported this page as the last one."""


def list_obstore_pages(
    client: Any, prefix: str, *, start_after: str | None = None, one_level: bool
) -> Iterator[ListingPage]:
    """List a bucket of a service other than S3, with obstore.

    Args:
        client: A client of obstore.
        prefix: Start of the keys.
        start_after: List only keys after this one.
        one_level: Return keys below the next slash as folders.
    """
    parent = prefix.rpartition("/")[0]  # obstore supports only whole folders as prefixes
    if one_level:
        result = obstore.list_with_delimiter(client, parent)
        folders = [f"{folder}/" for folder in result["common_prefixes"]]
        objects = _to_record_batch(result["objects"], prefix)
        if start_after is not None:
            objects = objects.filter(pc.greater(objects["key"], start_after))
        yield ListingPage(objects, [folder for folder in folders if folder.startswith(prefix)], last_key=True)
        return
    for chunk in obstore.list(client, parent, offset=start_after, chunk_size=_PAGE_KEYS.current_value):
        yield ListingPage(_to_record_batch(chunk, prefix), [], last_key=False)


def capture_raw_listings(client: Any) -> None:
    """Make a client of botocore return the pages of listings unparsed."""
    take_bodies(client, "ListObjectsV2")


def list_s3_pages(
    client: Any, bucket: str, prefix: str, *, start_after: str | None = None, one_level: bool
) -> Iterator[ListingPage]:
    """List an S3 bucket, page by page.

    Args:
        client: A client of botocore, prepared by `capture_raw_listings`.
        bucket: Name of the bucket.
        prefix: Start of the keys.
        start_after: List only keys after this one.
        one_level: Return keys below the next slash as folders.
    """
    request: dict[str, Any] = {
        "Bucket": bucket,
        "Prefix": prefix,
        "MaxKeys": _PAGE_KEYS.current_value,
        "EncodingType": "url",
    }
    if one_level:
        request["Delimiter"] = "/"
    if start_after:
        request["StartAfter"] = start_after
    token: str | None = ""
    while token is not None:
        page, token = with_retries(
            f"s3://{bucket}/{prefix}", lambda: _parse_listing_xml(body_of(client.list_objects_v2(**request)), bucket)
        )
        yield page
        request["ContinuationToken"] = token


def _parse_listing_xml(body: bytes, bucket: str) -> tuple[ListingPage, str | None]:
    """Return a page, and the token for the next one."""
    failure = f"s3://{bucket} cannot be listed"
    try:
        root = ElementTree.fromstring(body)
    except ElementTree.ParseError:
        raise UnavailableError(f"{failure}: the service returned an empty or broken page; try again") from None
    namespace, brace, kind = root.tag.rpartition("}")
    if kind == "Error":  # a response with status 200 may contain an error
        code = root.findtext("{*}Code")
        raise UnavailableError(f"{failure}: the service answered {code} after all tries; try again")
    namespace += brace
    contents = root.findall(f"{namespace}Contents")
    keys, sizes, etags, times = (_element_texts(root, contents, namespace + name) for name in _FIELDS)
    prefixes = root.findall(f"{namespace}CommonPrefixes")
    folders = [element.findtext(f"{namespace}Prefix") or "" for element in prefixes]
    if root.find(f"{namespace}EncodingType") is not None:
        keys, folders = [unquote_plus(key or "") for key in keys], [unquote_plus(folder) for folder in folders]
    token = root.findtext(f"{namespace}NextContinuationToken")
    columns = [pa.array(texts, pa.string()) for texts in (keys, sizes, etags, times)]
    objects = pa.record_batch([column.cast(field.type) for column, field in zip(columns, SCHEMA, strict=True)], SCHEMA)
    return ListingPage(objects, folders, last_key=token is None), token


def _element_texts(root: ElementTree.Element, contents: Sequence[ElementTree.Element], tag: str) -> list[str | None]:
    """One field of all objects, in order; None where an object lacks it."""
    texts = [element.text for element in root.iter(tag)]  # half the time of a search in each object
    return texts if len(texts) == len(contents) else [element.findtext(tag) for element in contents]


def _to_record_batch(objects: Sequence[ObjectMeta], prefix: str) -> pa.RecordBatch:
    rows = [
        {"key": meta["path"], "size": meta["size"], "etag": meta["e_tag"], "last_modified": meta["last_modified"]}
        for meta in objects
        if meta["path"].startswith(prefix)
    ]
    return pa.RecordBatch.from_pylist(rows, SCHEMA)
