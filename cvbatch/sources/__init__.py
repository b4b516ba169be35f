"""Where images come from: one file per kind of source, and one row here."""

from __future__ import annotations

import os

import pyarrow as pa

from cvbatch.config import SourceConfig
from cvbatch.errors import SourceError
from cvbatch.locations import local_path
from cvbatch.sources.containers import Containers
from cvbatch.sources.entries import Source
from cvbatch.sources.files import FileSource
from cvbatch.sources.manifests import ManifestSource, is_manifest
from cvbatch.sources.suffixes import Suffixes


def open_source(config: SourceConfig, carried: pa.Schema | None = None) -> Source:
    """Return the source that a job names.

    Args:
        config: Names it.
        carried: The columns that came along when it was planned; the first container decides where there is no plan.

    Raises:
        SourceError: If it is not there or of a kind that is not known.
    """
    path = local_path(config.uri)
    if path is None:
        scheme = config.uri.partition("://")[0]
        raise SourceError(f"source {scheme}://… cannot be read: expected a local folder, glob, image or manifest")
    if not os.path.isdir(path) and is_manifest(path, config.uri_column, config.image_column):
        return ManifestSource(path, config.rename, config.uri_column)
    suffixes = Suffixes(config.extensions)
    containers = Containers(
        suffixes,
        metadata=config.metadata == "auto",
        image_column=config.image_column,
        rename=config.rename,
        carried=carried,
    )
    return FileSource(path, suffixes, containers)
