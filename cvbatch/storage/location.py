"""Locations: a local path, or a bucket and key with the options to access it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote

from cvbatch.errors import JobError
from cvbatch.storage.local_paths import lowercase_scheme, to_local_path
from cvbatch.storage.options import StorageOptions

SCHEMES: Final = ("s3", "gs", "az")
CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_BUCKET: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")
_USER: Final = re.compile(r"(?<=://)(?:[^/@\s]*|[^/@:\s]*:[^@\s]*)@")  # a secret may contain slashes
_SIGNED: Final = re.compile(
    r"[?&#;](?:x-amz-|x-goog-|x-oss-|(?:aws|oss)accesskeyid=|googleaccessid=|key-pair-id=|sv=|hmac=|hdn(?:ea|ts)=|jwt="
    r"|[\w-]*(?:signature|sig|token|api_?key|password|passwd|secret|auth)_*=)",
    re.I,
)
_HTTP_USER: Final = re.compile(r"[^/?#]*@|[^/?#@:\[]*:(?!\d*(?:[/?#]|$))[^@]*@")
"""User part of a web URI; after a host with a port, an @ belongs to the path."""
_QUERY: Final = re.compile(r"[?#;]|%3f|%23|%3b", re.I)
_SIGNED_QUERY: Final = re.compile(rf"{_SIGNED.pattern}\S*", re.I)


def redact_secrets(text: str) -> str:
    """Return a text in one line, without the credentials and signatures of URIs in it."""
    return CONTROL.sub(_percent_escape, _SIGNED_QUERY.sub("?…", _USER.sub("…@", text)))


def has_secret(uri: str) -> bool:
    """Whether a URI contains credentials or a signature; a signature may be percent-encoded."""
    scheme, separator, address = uri.partition("://")
    if scheme.lower() in ("http", "https"):
        return bool(_HTTP_USER.match(address) or _SIGNED.search(unquote(address)))
    return bool(separator) and scheme != "file" and bool(_USER.search(uri) or _SIGNED.search(uri))


def strip_secret(uri: str) -> str:
    """Return a URI with a secret without its user and query, so that it can be stored."""
    scheme, separator, address = uri.partition("://")
    if scheme.lower() not in ("http", "https"):
        return redact_secrets(uri)
    without_user = _HTTP_USER.sub("…@", address, count=1)
    path = _QUERY.split(without_user, maxsplit=1)[0]
    return CONTROL.sub(_percent_escape, f"{scheme}{separator}{path}{'?…' if path != without_user else ''}")


def _percent_escape(match: re.Match[str]) -> str:
    return f"\\x{ord(match[0]):02x}"


def is_object_uri(uri: str) -> bool:
    """Whether a URI has the scheme of a supported object store."""
    return uri.partition("://")[0].lower() in SCHEMES and "://" in uri


@dataclass(frozen=True, slots=True)
class Location:
    """A local path or object URI that all processes of a cluster can open; picklable and hashable.

    `Location.from_uri` makes and checks it, so the URI never contains a secret.
    """

    uri: str
    """An absolute local path, or `scheme://bucket/key` as the user wrote it."""
    options: StorageOptions = field(default=StorageOptions(), repr=False)

    @staticmethod
    def from_uri(uri: str, options: StorageOptions | None = None) -> Location:
        """Make a location from a path or URI of the user.

        Raises:
            JobError: If the URI contains credentials, is malformed or has an unknown scheme.
        """
        path, uri = to_local_path(uri), lowercase_scheme(uri)
        if path is not None:
            return Location(path)
        if not is_object_uri(uri):
            scheme = uri.partition("://")[0]
            schemes = ", ".join(f"{known_scheme}://" for known_scheme in SCHEMES)
            raise JobError(f"{scheme}://… is not known: expected a local path, {schemes}")
        _check_object_uri(uri)
        return Location(uri, options or StorageOptions())

    @staticmethod
    def from_path_or_uri(path_or_uri: Location | str, options: StorageOptions | None = None) -> Location:
        """Return a given location unchanged, or make one from a path or URI; see `from_uri`."""
        return path_or_uri if isinstance(path_or_uri, Location) else Location.from_uri(path_or_uri, options)

    @property
    def is_local(self) -> bool:
        """Whether it is on a disk."""
        return not is_object_uri(self.uri)

    @property
    def scheme(self) -> str:
        """`s3`, `gs` or `az`."""
        return self.uri.partition("://")[0]

    @property
    def bucket(self) -> str:
        """The bucket or container."""
        return self.uri.partition("://")[2].partition("/")[0]

    @property
    def key(self) -> str:
        """The exact key after the bucket; may be empty."""
        return self.uri.partition("://")[2].partition("/")[2]

    def __str__(self) -> str:
        return redact_secrets(self.uri)


def _check_object_uri(uri: str) -> None:
    scheme, _, address = uri.partition("://")
    bucket, _, key = address.partition("/")
    expected = f"{scheme}://…: expected {scheme}://bucket/key"
    if _USER.search(uri):
        raise JobError(f"{expected} without credentials; they belong in the environment or a profile")
    if _SIGNED.search(uri):
        raise JobError(f"{expected} without a signed query; credentials belong in the environment or a profile")
    if not _BUCKET.fullmatch(bucket):
        raise JobError(f"{expected}, got {bucket!r}, which is not a valid bucket name")
    if {".", ".."} & set(key.split("/")):
        raise JobError(f"{uri}: expected a key without . and .. between its slashes")
