"""Converts paths and `file:` URIs of users to absolute paths."""

from __future__ import annotations

import os
import re
from typing import Final
from urllib.parse import unquote

_FILE: Final = re.compile(r"file:(?://(?:localhost(?=/)|(?P<host>[^/]+))?)?(?=/)", re.I)
"""Start of a `file:` URI, up to its path."""


def to_local_path(uri: str) -> str | None:
    """Return the absolute path of a local path or `file://` URI, or None for any other scheme.

    Only a URI is percent-decoded; in a path only a leading `~` is replaced. `file:/path` is a URI, too, in upper or
    lower case. A `file:` URI with another host gives None.
    """
    if (path := file_uri_to_path(uri)) is not None:
        return path
    return None if "://" in uri else os.path.abspath(os.path.expanduser(uri))


def file_uri_to_path(uri: str) -> str | None:
    """Return the absolute path of a `file:` URI; None for other schemes and for other hosts."""
    match = _FILE.match(uri)
    if match is None or match["host"]:
        return None
    return os.path.abspath("/" + unquote(uri[match.end() :], errors="surrogateescape").lstrip("/"))


def lowercase_scheme(uri: str) -> str:
    """Return a URI with its scheme in lower case; a path stays unchanged."""
    scheme, separator, path = uri.partition("://")
    return f"{scheme.lower()}{separator}{path}" if separator and scheme.isalnum() else uri
