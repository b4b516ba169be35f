"""Paths and URIs as people write them, made absolute."""

from __future__ import annotations

import os
from urllib.parse import unquote


def local_path(uri: str) -> str | None:
    """Return the absolute path of a local path or `file://` URI, or None for any other scheme.

    Only a URI is percent-decoded; a path is taken as it is, but for a leading `~`.
    """
    scheme, separator, rest = uri.partition("://")
    if not separator:
        return os.path.abspath(os.path.expanduser(uri))
    if scheme != "file":
        return None
    return os.path.abspath("/" + unquote(rest.removeprefix("localhost"), errors="surrogateescape").lstrip("/"))
