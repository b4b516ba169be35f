"""Sources of images: one module per kind of source."""

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
from cvbatch.sources.paged import PagedSource
from cvbatch.sources.suffixes import ImageSuffixes
from cvbatch.storage.local_paths import to_local_path
from cvbatch.storage.location import Location, is_object_uri


def open_source(config: SourceConfig, extra_columns: pa.Schema | None = None) -> ImageSource:
    """Return the source that a job configures.

    Args:
        config: The source section of the job.
        extra_columns: Extra columns of the plan; None lets the first container decide.

    Raises:
        SourceError: If the source does not exist or its kind is not supported.
    """
    if len(config.uris) > 1:
        return _open_multiple(config, extra_columns)
    assert isinstance(config.uri, str), "exactly one URI remains"
    return _open_one_source(config, config.uri, extra_columns)


def _open_multiple(config: SourceConfig, extra_columns: pa.Schema | None) -> ImageSource:
    sources = list[ImageSource]()
    for uri in config.uris:
        first_columns = (
            None if extra_columns is not None or not sources or sources[0].positional else sources[0].extra_columns
        )
        sources.append(_open_one_source(config, uri, extra_columns if first_columns is None else first_columns))
    return MultipleSources(config.uris, sources)


def _open_one_source(config: SourceConfig, uri: str, extra_columns: pa.Schema | None) -> ImageSource:
    source = _open_files(config, uri, extra_columns)
    return PagedSource(source, config.fetch_options, config.max_pages) if config.pages == "all" else source


def _open_files(config: SourceConfig, uri: str, extra_columns: pa.Schema | None) -> ImageSource:
    suffixes, filters = ImageSuffixes(config.extensions), FileFilters.from_config(config)
    containers = ContainerOpener(
        suffixes,
        metadata=config.metadata == "auto",
        image_column=config.image_column,
        rename=config.rename,
        extra_columns=extra_columns,
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
            f"source {scheme}://… cannot be read: expected a folder, glob, image or manifest, local or in a bucket"
        )
    if not os.path.isdir(path) and is_packed_manifest(path):
        raise SourceError(f"{path} is a packed manifest: unpack it first")
    if not os.path.isdir(path) and is_manifest(path, config.uri_column, config.image_column):
        return _open_manifest(config, path, extra_columns)
    return LocalFileSource(path, suffixes, containers, filters)


def _open_bucket_source(
    config: SourceConfig, location: Location, suffixes: ImageSuffixes, containers: ContainerOpener, filters: FileFilters
) -> ImageSource:
    if is_packed_manifest(location.key):
        raise SourceError(f"{location} is a packed manifest: unpack it first")
    try:
        is_manifest_object = is_remote_manifest(location, config.uri_column, config.image_column)
        return (
            _copy_remote_manifest(location, config, containers.extra_columns)
            if is_manifest_object
            else BucketSource(location, suffixes, containers, filters)
        )
    except ImageError as error:
        raise SourceError(f"{location} cannot be read: {error}; check --source or source.uri") from None


def _copy_remote_manifest(location: Location, config: SourceConfig, extra_columns: pa.Schema | None) -> ImageSource:
    # a manifest is read more than once, and its readers need a file
    with contextlib.ExitStack() as cleanup:
        folder = cleanup.enter_context(tempfile.TemporaryDirectory(prefix="cvbatch-"))
        local_copy = os.path.join(folder, os.path.basename(location.key))
        with open(local_copy, "wb") as file:
            download_to_file(os.fsencode(location.uri), location.options, file)
        source = _open_manifest(config, local_copy, extra_columns, origin=location.uri)
        weakref.finalize(source, cleanup.pop_all().close)
        return source


def _open_manifest(
    config: SourceConfig, path: str, extra_columns: pa.Schema | None, *, origin: str | None = None
) -> ManifestSource:
    unsupported_filters = [name for name in ("min_bytes", "modified_since", "exclude") if getattr(config, name)]
    if unsupported_filters:
        raise SourceError(
            f"source.{unsupported_filters[0]}: a manifest is used line by line; remove the option, or the lines"
        )
    metadata = config.metadata == "auto"
    return ManifestSource(
        path, config.rename, config.uri_column, origin=origin, metadata=metadata, extra_columns=extra_columns
    )
