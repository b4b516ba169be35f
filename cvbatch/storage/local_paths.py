"""Paths and URIs as people write them, made absolute."""

from __future__ import annotations

import os
import re
from typing import Final
from urllib.parse import unquote

_FILE: Final = re.compile(r"file:(?://(?:localhost(?=/)|(?P<host>[^/]+))?)?(?=/)", re.I)
"""What a URI of a file begins with, up to its path."""


def to_local_path(uri: str) -> str | None:
    """Return the absolute path of a local path or `file://` URI, or None for any other scheme.

    Only a URI is percent-decoded; a path is taken as it is, but for a leading `~`. `file:/path` is
    one, too, in any case; one of another host is none of ours.
    """
    if (path := file_uri_to_path(uri)) is not None:
        return path
    return None if "://" in uri else os.path.abspath(os.path.expanduser(uri))


def file_uri_to_path(uri: str) -> str | None:
    """The absolute path that a `file:` URI names; None for anything else, and for one of another host."""
    file = _FILE.match(uri)
    if file is None or file["host"]:
        return None
    return os.path.abspath("/" + unquote(uri[file.end() :], errors="surrogateescape").lstrip("/"))


def lowercase_scheme(uri: str) -> str:
    """A URI with its scheme in lower case, as `S3://` and `HTTP://` are the same; a path stays as it is."""
    scheme, separator, rest = uri.partition("://")
    return f"{scheme.lower()}{separator}{rest}" if separator and scheme.isalnum() else uri
