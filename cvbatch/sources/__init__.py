"""Where images come from: one file per kind of source, and one row here."""

from __future__ import annotations

import os
import tempfile
import weakref

import pyarrow as pa

from cvbatch.config import SourceConfig
from cvbatch.errors import ImageError, SourceError
from cvbatch.locations import local_path
from cvbatch.sources.containers import Containers
from cvbatch.sources.entries import Source
from cvbatch.sources.files import FileSource
from cvbatch.sources.manifests import ManifestSource, is_manifest, is_remote_manifest
from cvbatch.sources.objects import ObjectSource
from cvbatch.sources.remote import download
from cvbatch.sources.suffixes import Suffixes
from cvbatch.storage.places import Place, is_object_uri


def open_source(config: SourceConfig, carried: pa.Schema | None = None) -> Source:
    """Return the source that a job names.

    Args:
        config: Names it.
        carried: The columns that came along when it was planned; the first container decides where there is no plan.

    Raises:
        SourceError: If it is not there or of a kind that is not known.
    """
    suffixes = Suffixes(config.extensions)
    containers = Containers(
        suffixes,
        metadata=config.metadata == "auto",
        image_column=config.image_column,
        rename=config.rename,
        carried=carried,
        storage=config.storage,
    )
    path = local_path(config.uri)
    if path is None and is_object_uri(config.uri):
        return _in_bucket(config, suffixes, containers)
    if path is None:
        scheme = config.uri.partition("://")[0]
        raise SourceError(
            f"source {scheme}://… cannot be read: expected a local folder, glob, image or manifest, or one of a bucket"
        )
    if not os.path.isdir(path) and is_manifest(path, config.uri_column, config.image_column):
        return ManifestSource(path, config.rename, config.uri_column)
    return FileSource(path, suffixes, containers)


def _in_bucket(config: SourceConfig, suffixes: Suffixes, containers: Containers) -> Source:
    place = Place.of(config.uri, config.storage)
    try:
        manifest = is_remote_manifest(place, config.uri_column, config.image_column)
        return _manifest(place, config) if manifest else ObjectSource(place, suffixes, containers)
    except ImageError as error:
        raise SourceError(f"{place} cannot be read: {error}; check source.uri") from None


def _manifest(place: Place, config: SourceConfig) -> Source:
    # a manifest is read more than once, and its readers want a file
    folder = tempfile.TemporaryDirectory(prefix="cvbatch-")
    copy = os.path.join(folder.name, os.path.basename(place.key))
    with open(copy, "wb") as file:
        download(os.fsencode(place.uri), place.options, file)
    source = ManifestSource(copy, config.rename, config.uri_column, named=place.uri)
    weakref.finalize(source, folder.cleanup)
    return source
