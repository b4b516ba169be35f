"""Where images come from: one file per kind of source, and one row here."""

from __future__ import annotations

import contextlib
import os
import tempfile
import weakref

import pyarrow as pa

from cvbatch.config.job import SourceConfig
from cvbatch.errors import ImageError, SourceError
from cvbatch.sources.bucket import BucketSource
from cvbatch.sources.containers import ContainerOpener
from cvbatch.sources.entries import ImageSource
from cvbatch.sources.fetch.prefetch import download_to_file
from cvbatch.sources.filters import FileFilters
from cvbatch.sources.local_files import LocalFileSource
from cvbatch.sources.manifest import ManifestSource, is_manifest, is_packed_manifest, is_remote_manifest
from cvbatch.sources.multiple import MultipleSources
from cvbatch.sources.suffixes import ImageSuffixes
from cvbatch.storage.local_paths import to_local_path
from cvbatch.storage.location import Location, is_object_uri


def open_source(config: SourceConfig, carried: pa.Schema | None = None) -> ImageSource:
    """Return the source that a job names.

    Args:
        config: Names it.
        carried: The columns that came along when it was planned; the first container decides where there is no plan.

    Raises:
        SourceError: If it is not there or of a kind that is not known.
    """
    if len(config.uris) > 1:
        return _open_multiple(config, carried)
    assert isinstance(config.uri, str), "there is one"
    return _open_one_source(config, config.uri, carried)


def _open_multiple(config: SourceConfig, carried: pa.Schema | None) -> ImageSource:
    sources = list[ImageSource]()
    for uri in config.uris:
        first = None if carried is not None or not sources or sources[0].positional else sources[0].extra_columns
        sources.append(_open_one_source(config, uri, carried if first is None else first))
    return MultipleSources(config.uris, sources)


def _open_one_source(config: SourceConfig, uri: str, carried: pa.Schema | None) -> ImageSource:
    suffixes, filters = ImageSuffixes(config.extensions), FileFilters.from_config(config)
    containers = ContainerOpener(
        suffixes,
        metadata=config.metadata == "auto",
        image_column=config.image_column,
        rename=config.rename,
        carried=carried,
        storage=config.storage_options,
        filters=filters,
    )
    path = to_local_path(uri)
    if path is None and is_object_uri(uri):
        return _open_bucket_source(
            config, Location.from_uri(uri, config.storage_options), suffixes, containers, filters
        )
    if path is None:
        scheme = uri.partition("://")[0]
        raise SourceError(
            f"source {scheme}://… cannot be read: expected a local folder, glob, image or manifest, or one of a bucket"
        )
    if not os.path.isdir(path) and is_packed_manifest(path):
        raise SourceError(f"{path} is a packed manifest: unpack it first")
    if not os.path.isdir(path) and is_manifest(path, config.uri_column, config.image_column):
        return _open_manifest(config, path, carried)
    return LocalFileSource(path, suffixes, containers, filters)


def _open_bucket_source(
    config: SourceConfig, place: Location, suffixes: ImageSuffixes, containers: ContainerOpener, filters: FileFilters
) -> ImageSource:
    if is_packed_manifest(place.key):
        raise SourceError(f"{place} is a packed manifest: unpack it first")
    try:
        manifest = is_remote_manifest(place, config.uri_column, config.image_column)
        return (
            _copy_remote_manifest(place, config, containers.extra_columns)
            if manifest
            else BucketSource(place, suffixes, containers, filters)
        )
    except ImageError as error:
        raise SourceError(f"{place} cannot be read: {error}; check source.uri") from None


def _copy_remote_manifest(place: Location, config: SourceConfig, planned: pa.Schema | None) -> ImageSource:
    # a manifest is read more than once, and its readers want a file
    with contextlib.ExitStack() as on_failure:
        folder = on_failure.enter_context(tempfile.TemporaryDirectory(prefix="cvbatch-"))
        copy = os.path.join(folder, os.path.basename(place.key))
        with open(copy, "wb") as file:
            download_to_file(os.fsencode(place.uri), place.options, file)
        source = _open_manifest(config, copy, planned, named=place.uri)
        weakref.finalize(source, on_failure.pop_all().close)
        return source


def _open_manifest(
    config: SourceConfig, path: str, planned: pa.Schema | None, *, named: str | None = None
) -> ManifestSource:
    given = [name for name in ("min_bytes", "modified_since", "exclude") if getattr(config, name)]
    if given:
        raise SourceError(f"source.{given[0]}: a manifest takes every line; leave it out, or the lines")
    metadata = config.metadata == "auto"
    return ManifestSource(path, config.rename, config.uri_column, named=named, metadata=metadata, planned=planned)
