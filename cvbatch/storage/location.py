"""Locations: a local path, or a bucket and a key, together with how to get there."""

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
_USER: Final = re.compile(r"(?<=://)(?:[^/@\s]*|[^/@:\s]*:[^@\s]*)@")  # a secret may have slashes
_SIGNED: Final = re.compile(
    r"[?&#;](?:x-amz-|x-goog-|x-oss-|(?:aws|oss)accesskeyid=|googleaccessid=|key-pair-id=|sv=|hmac=|hdn(?:ea|ts)=|jwt="
    r"|[\w-]*(?:signature|sig|token|api_?key|password|passwd|secret|auth)_*=)",
    re.I,
)
_HTTP_USER: Final = re.compile(r"[^/?#]*@|[^/?#@:\[]*:(?!\d*(?:[/?#]|$))[^@]*@")
"""With a port, a path may have an @ as well."""
_QUERY: Final = re.compile(r"[?#;]|%3f|%23|%3b", re.I)
_SIGNED_QUERY: Final = re.compile(rf"{_SIGNED.pattern}\S*", re.I)


def redact_secrets(text: str) -> str:
    """A text in one line, without the credentials and signatures that a URI in it may carry."""
    return CONTROL.sub(_percent_escape, _SIGNED_QUERY.sub("?…", _USER.sub("…@", text)))


def has_secret(uri: str) -> bool:
    """Whether a URI carries credentials or a signature; that of a query may be written with percent signs."""
    scheme, separator, rest = uri.partition("://")
    if scheme.lower() in ("http", "https"):
        return bool(_HTTP_USER.match(rest) or _SIGNED.search(unquote(rest)))
    return bool(separator) and scheme != "file" and bool(_USER.search(uri) or _SIGNED.search(uri))


def strip_secret(uri: str) -> str:
    """What may be kept of a URI that has one: no user, and nothing of its query."""
    scheme, separator, rest = uri.partition("://")
    if scheme.lower() not in ("http", "https"):
        return redact_secrets(uri)
    hidden = _HTTP_USER.sub("…@", rest, count=1)
    path = _QUERY.split(hidden, maxsplit=1)[0]
    return CONTROL.sub(_percent_escape, f"{scheme}{separator}{path}{'?…' if path != hidden else ''}")


def _percent_escape(found: re.Match[str]) -> str:
    return f"\\x{ord(found[0]):02x}"


def is_object_uri(uri: str) -> bool:
    """Whether a URI is one of an object store that we know."""
    return uri.partition("://")[0].lower() in SCHEMES and "://" in uri


@dataclass(frozen=True, slots=True)
class Location:
    """Somewhere that a process of the cluster can find again: it may be pickled and used as a key.

    Made by `Location.from_uri`, which checks it; so the URI never holds a secret.
    """

    uri: str
    """An absolute local path, or `scheme://bucket/key` as it was given."""
    options: StorageOptions = field(default=StorageOptions(), repr=False)

    @staticmethod
    def from_uri(uri: str, options: StorageOptions | None = None) -> Location:
        """Make a place of what a person wrote.

        Raises:
            JobError: If the URI holds credentials, or is of a kind that is not known.
        """
        path, uri = to_local_path(uri), lowercase_scheme(uri)
        if path is not None:
            return Location(path)
        if not is_object_uri(uri):
            scheme = uri.partition("://")[0]
            raise JobError(f"{scheme}://… is not known: expected a local path, {', '.join(f'{s}://' for s in SCHEMES)}")
        _check_object_uri(uri)
        return Location(uri, options or StorageOptions())

    @staticmethod
    def from_path_or_uri(given: Location | str, options: StorageOptions | None = None) -> Location:
        """The place that is given, or that of what a person wrote; see `from_uri`."""
        return given if isinstance(given, Location) else Location.from_uri(given, options)

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
        """What comes behind the bucket, exactly; may be empty."""
        return self.uri.partition("://")[2].partition("/")[2]

    def __str__(self) -> str:
        return redact_secrets(self.uri)


def _check_object_uri(uri: str) -> None:
    scheme, _, rest = uri.partition("://")
    bucket, _, key = rest.partition("/")
    expected = f"{scheme}://…: expected {scheme}://bucket/key"
    if _USER.search(uri):
        raise JobError(f"{expected} without credentials; they belong in the environment or a profile")
    if _SIGNED.search(uri):
        raise JobError(f"{expected} without a signed query; credentials belong in the environment or a profile")
    if not _BUCKET.fullmatch(bucket):
        raise JobError(f"{expected}, and this is no name of a bucket: {bucket!r}")
    if {".", ".."} & set(key.split("/")):
        raise JobError(f"{uri}: expected a key without . and .. between its slashes")
