"""The folder of a report, on a disk or in a bucket."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Final

from cvbatch.errors import UsageError
from cvbatch.results.answer_files import check_outside_source, write_whole_file
from cvbatch.results.committed import OpenedOutput, Output, Storage
from cvbatch.sources.output_folders import REPORT
from cvbatch.storage.buckets import open_bucket
from cvbatch.storage.location import Location
from cvbatch.storage.options import StorageOptions

PAGE: Final = "index.html"
THUMBNAILS: Final = "thumbnails"
_MEDIA_TYPES: Final = {".html": "text/html; charset=utf-8", ".webp": "image/webp"}
"""A browser saves a page whose bucket does not say what it is, instead of showing it."""


class ReportFolder:
    """Files of a report.

    Args:
        location: Of the folder.
    """

    def __init__(self, location: Location) -> None:
        self.location = location

    def path_of(self, name: str) -> str:
        """Where a file is, as a person opens it."""
        return f"{self.location.uri.rstrip('/')}/{name}"

    def list_sizes(self, folder: str) -> dict[str, int]:
        """Bytes of the files in a folder below this one, by names such as `thumbnails/12.webp`; none without it."""
        if not self.location.is_local:
            prefix = self._key_of(f"{folder}/")
            objects = open_bucket(self.location).list_level(prefix)
            pairs = zip(objects["key"].to_pylist(), objects["size"].to_pylist(), strict=True)
            return {f"{folder}/{key.removeprefix(prefix)}": size for key, size in pairs}
        path = Path(self.location.uri, folder)
        files = sorted(path.iterdir()) if path.is_dir() else []
        return {f"{folder}/{file.name}": file.lstat().st_size for file in files}

    def read(self, name: str) -> bytes | None:
        """Content of a file; None if there is none."""
        try:
            if not self.location.is_local:
                return open_bucket(self.location).get_object(self._key_of(name)).data
            return Path(self.location.uri, name).read_bytes()
        except FileNotFoundError:
            return None

    def write(self, name: str, content: bytes) -> None:
        """Write a whole file; nobody sees half of one.

        Raises:
            OutputError: If the folder cannot be written.
        """
        media_type = _MEDIA_TYPES[os.path.splitext(name)[1]]
        write_whole_file(replace(self.location, uri=self.path_of(name)), content, media_type)

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        if not self.location.is_local:
            open_bucket(self.location).delete_object(self._key_of(name))
            return
        Path(self.location.uri, name).unlink(missing_ok=True)

    def _key_of(self, name: str) -> str:
        return "/".join(part for part in (self.location.key.strip("/"), name) if part)


def place_report(opened: OpenedOutput, to: Output | None, storage: Storage = None) -> ReportFolder:
    """Say where the report of a run is written: by default in `_report` below the output, which runs ignore.

    Args:
        opened: The run.
        to: Another folder, which the user chose.
        storage: Options for an object store that holds it; None for those of the run.

    Raises:
        UsageError: If a later `cvbatch run --update` would take its pictures for images, or it is the output itself.
    """
    folder = place_folder(opened.location, to, storage)
    place, run = folder.location, opened.location
    # a listing leaves out all that is in an output
    if place.is_local and not place.uri.startswith(f"{run.uri.rstrip('/')}/"):
        check_outside_source(place.uri, opened, "images")
    return folder


def place_folder(run: Location, to: Output | None, storage: Storage = None) -> ReportFolder:
    """Say where the report of an output is written: by default in `_report` below it.

    Args:
        run: The output.
        to: Another folder, which the user chose.
        storage: Options for an object store that holds it; None for those of the output.

    Raises:
        UsageError: If it is the output itself, or a file.
    """
    if to is None:
        return ReportFolder(Location(f"{run.uri.rstrip('/')}/{REPORT}", run.options))
    place = Location.from_path_or_uri(to, run.options if storage is None else StorageOptions.from_mapping(storage))
    if place.uri.rstrip("/") == run.uri.rstrip("/"):
        raise UsageError(f"{place} is the output itself; choose another place with --to, or leave it out")
    if place.is_local and Path(place.uri).exists() and not Path(place.uri).is_dir():
        raise UsageError(f"expected a folder for the report, got the file {place}; choose another place with --to")
    return ReportFolder(place)
