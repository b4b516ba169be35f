"""Names and folders of images as a person reads them, and links that a browser can follow."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from cvbatch.storage.local_paths import to_local_path

_GLOB = re.compile(r"[*?\[]")
_NAME = "[^/]*$"
_ESCAPED = re.compile(r"\\x[0-9a-f]{2}")
"""Where a URI stands for a path with bytes that are no UTF-8."""


class ImageNames:
    """Names of images below the sources of a run.

    Args:
        sources: Locations of the sources.
    """

    def __init__(self, sources: Sequence[str]) -> None:
        self._roots = sorted((_root_of_source(source) for source in sources), key=len, reverse=True)

    def name_of(self, uri: str) -> str:
        """Name of an image below its source; the whole URI if it lies below none."""
        root = next((root for root in self._roots if uri.startswith(root) and len(uri) > len(root)), "")
        return uri[len(root) :].lstrip("/#") or uri

    def folder_of(self, uri: str) -> str:
        """Folder of an image below its source, without a slash after it; empty for the source itself."""
        return self.name_of(uri).rpartition("/")[0]

    def folders_of(self, uris: pa.ChunkedArray) -> pa.DictionaryArray:
        """Folder of each image, (images,)."""
        with_slash = pc.replace_substring_regex(uris, _NAME, "").combine_chunks().dictionary_encode()
        folders = [self.folder_of(f"{folder}x") for folder in with_slash.dictionary.to_pylist()]
        return pa.DictionaryArray.from_arrays(with_slash.indices, pa.array(folders, pa.string()))


def _root_of_source(source: str) -> str:
    """What the URIs of a source begin with."""
    path = to_local_path(source)
    root = source if path is None else os.path.abspath(path)
    cut = _GLOB.search(root)
    return root[: cut.start()].rpartition("/")[0] if cut else root.rstrip("/")


def link_to_image(uri: str) -> str | None:
    """Where a browser of this machine finds an image; None if it lies in an archive, in a bucket, or is gone."""
    if uri.startswith(("http://", "https://")):
        return uri
    if not uri.startswith("/") or _ESCAPED.search(uri) or not os.path.isfile(uri):
        return None
    return Path(uri).as_uri()
