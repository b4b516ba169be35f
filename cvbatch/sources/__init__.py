"""Where images come from: one file per kind of source, and one row here."""

from __future__ import annotations

import os

from cvbatch.config import SourceConfig
from cvbatch.errors import SourceError
from cvbatch.locations import local_path
from cvbatch.sources.entries import Source
from cvbatch.sources.files import FileSource
from cvbatch.sources.manifests import MANIFEST_SUFFIXES, ManifestSource


def open_source(config: SourceConfig) -> Source:
    """Return the source that a job names.

    Raises:
        SourceError: If it is not there or of a kind that is not known.
    """
    path = local_path(config.uri)
    if path is None:
        scheme = config.uri.partition("://")[0]
        raise SourceError(f"source {scheme}://… cannot be read: expected a local folder, glob, image or manifest")
    if path.lower().endswith(MANIFEST_SUFFIXES) and not os.path.isdir(path):
        return ManifestSource(path, config.rename)
    if config.rename:
        raise SourceError("source.rename: only a manifest has columns to rename")
    return FileSource(path, config.extensions)
