"""Where images come from: one file per kind of source, and one row here."""

from __future__ import annotations

import os

from cvbatch.config import SourceConfig
from cvbatch.errors import SourceError
from cvbatch.sources.entries import Source
from cvbatch.sources.files import FileSource
from cvbatch.sources.manifests import MANIFEST_SUFFIXES, ManifestSource


def open_source(config: SourceConfig) -> Source:
    """Return the source that a job names.

    Raises:
        SourceError: If it is not there or of a kind that is not known.
    """
    scheme, separator, rest = config.uri.partition("://")
    if separator and scheme != "file":
        raise SourceError(f"source {scheme}://… cannot be read: expected a local folder, glob, image or manifest")
    path = "/" + rest.lstrip("/") if separator else config.uri
    if path.lower().endswith(MANIFEST_SUFFIXES) and not os.path.isdir(path):
        return ManifestSource(path, config.rename)
    if config.rename:
        raise SourceError("source.rename: only a manifest has columns to rename")
    return FileSource(path, config.extensions)
