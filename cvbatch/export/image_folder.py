"""A folder for each class with links to its images, as torchvision, timm and others read it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Final

import numpy as np

from cvbatch.errors import RunError, UsageError
from cvbatch.export.base import Exporter, ImageBatch
from cvbatch.export.image_bytes import CONTENT_COLUMNS, BatchImages
from cvbatch.export.json_text import encode_json
from cvbatch.schema import FORMAT, ROW_ID
from cvbatch.sources.page_spans import PAGE

SYMLINK: Final = "symlink"
HARDLINK: Final = "hardlink"
COPY: Final = "copy"
_WAYS: Final = (SYMLINK, HARDLINK, COPY)
_LONGEST_NAME: Final = 200
"""Bytes; file systems take 255 with what is added to a name."""
_UNSAFE: Final = '/\\:*?"<>|%'
"""What some file system does not take in a name, and the sign that stands for it."""
_SUFFIXES: Final = frozenset({".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"})
"""What torchvision takes for images."""


class ImageFolderExporter(Exporter):
    """Images without a label, because their score is too low, are left out and counted."""

    def export(self) -> Mapping[str, int]:
        """See `Exporter.export`."""
        how = self.job.options.images or SYMLINK
        if how not in _WAYS:
            raise UsageError(f"images: expected {', '.join(_WAYS)}, got {how}")
        planned, folders = BatchImages(self.job.opened), class_folders(self.model.categories)
        used, without_label = set[int](), 0
        for batch in self.job.iter_batches(CONTENT_COLUMNS):
            label_ids = self._label_ids(batch)
            without_label += label_ids.count(None)
            used.update(label_id for label_id in label_ids if label_id is not None and label_id not in used)
            places = [
                None if label_id is None else os.path.join(self._folder(folders[label_id]), name)
                for label_id, name in zip(label_ids, _file_names(batch), strict=True)
            ]
            self._add_images(planned, batch, places, how)
        self._describe_classes(folders, sorted(used))
        return {**planned.counts, **({"images without a label": without_label} if without_label else {})}

    def _add_images(self, planned: BatchImages, batch: ImageBatch, places: Sequence[str | None], how: str) -> None:
        row_ids = batch.image_numbers(ROW_ID).tolist()
        if how == COPY:
            for image in planned.iter_images(batch):
                if (place := places[image.position]) is not None:
                    _add_file(place, row_ids[image.position], partial(_write_new, image.data))
            return
        link: Callable[[str, str], None] = os.symlink if how == SYMLINK else _link_content
        files = planned.find_files(batch, f"--images {COPY}")
        for place, row_id, file in zip(places, row_ids, files, strict=True):
            if place is not None:
                _add_file(place, row_id, partial(link, file))

    def _label_ids(self, batch: ImageBatch) -> list[int | None]:
        has_label = np.diff(batch.offsets) > 0
        found = iter(batch.elements["label_id"].to_pylist())
        return [next(found) if has else None for has in has_label.tolist()]

    def _folder(self, name: str) -> str:
        folder = os.path.join(self.job.target.folder, name)
        os.makedirs(folder, exist_ok=True)
        return folder

    def _describe_classes(self, folders: Sequence[str], label_ids: Sequence[int]) -> None:
        """Label ids of the folders, because readers count folders in their alphabetical order."""
        classes = [
            {"folder": folders[label_id], "label": self.model.categories[label_id], "label_id": label_id}
            for label_id in label_ids
        ]
        with self.job.target.open_file("classes.json") as file:
            file.write(encode_json(classes).encode() + b"\n")


def class_folders(categories: Sequence[str | None]) -> list[str]:
    """A name for the folder of each class: safe on every file system, and different even where case does not count.

    Args:
        categories: Name of each label id.
    """
    folders, taken = list[str](), set[str]()
    for label_id, category in enumerate(categories):
        name = safe_name(category or "")
        if name.casefold() in taken:
            name = f"{name} ({label_id})"
        taken.add(name.casefold())
        folders.append(name)
    return folders


def safe_name(name: str) -> str:
    """A name of a file or folder: unsafe characters become `%` and their number, and long names end in a hash."""
    safe = "".join(f"%{ord(letter):02X}" if letter in _UNSAFE or letter < " " else letter for letter in name)
    if not safe or safe[0] == ".":
        safe = f"%2E{safe[1:]}" if safe else "%"
    if safe[-1] in ". ":
        safe = f"{safe[:-1]}%{ord(safe[-1]):02X}"
    if len(safe.encode()) > _LONGEST_NAME:
        digest = hashlib.sha256(name.encode()).hexdigest()[:8]
        safe = f"{safe.encode()[: _LONGEST_NAME - 9].decode(errors='ignore')}-{digest}"
    return safe


def _file_names(batch: ImageBatch) -> Iterator[str]:
    """The last part of each name, with a suffix that readers know."""
    for name, content in zip(batch.names.to_pylist(), batch.images[FORMAT].to_pylist(), strict=True):
        last = name.replace(f"#{PAGE}", "-page-").replace("#", "/").rstrip("/").rpartition("/")[2]
        stem, suffix = os.path.splitext(last)
        if suffix.lower() not in _SUFFIXES:
            stem, suffix = f"{stem}{suffix}", f".{content or 'jpeg'}"
        yield safe_name(stem) + suffix


def _add_file(place: str, row_id: int, create: Callable[[str], None]) -> None:
    """Create a file; if another image has taken the name, the row id makes it a different one."""
    try:
        create(place)
    except FileExistsError:
        stem, suffix = os.path.splitext(place)
        create(f"{stem}-{row_id}{suffix}")


def _write_new(data: bytes, place: str) -> None:
    with open(place, "xb") as file:
        file.write(data)


def _link_content(file: str, place: str) -> None:
    try:
        os.link(os.path.realpath(file), place)
    except FileExistsError:
        raise
    except OSError as error:
        raise RunError(f"{file} cannot be linked from {place} ({error.strerror}); use --images {SYMLINK}") from None
