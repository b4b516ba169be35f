"""The boxes of a run, folder by folder, in memory that does not grow with the run."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cvbatch.models.spec import ModelSpec
from cvbatch.results.committed import OpenedOutput
from cvbatch.results.list_columns import label_ids_of_classes
from cvbatch.results.streaming import RowSelection, iter_rows
from cvbatch.results.where import Where, check_group_column
from cvbatch.schema import HEIGHT, IMAGE_URI, OK, ROW_ID, SOURCE_REMOVED, STATUS, WIDTH

Boxes = npt.NDArray[Any]
"""Structured array (n,) of `BOX_TYPE`."""
BOX_TYPE: Final = np.dtype(
    [
        ("folder", "i4"),
        ("row", "i8"),
        ("index", "i4"),
        ("label", "i4"),
        ("score", "f4"),
        ("box", "f4", 4),
        ("size", "f4", 2),
    ]
)
"""A box: its folder, row id, place in the lists of the image, label id, score, corners in pixels, and the width and
height of the image."""
_PARTITIONS: Final = 64
_BATCH_ROWS: Final = 2048
_CONTAINER: Final = r"(?i)(\.(?:tar|tgz|tzst|gz|zst|zip|parquet|arrow|feather))#"
"""An archive or a table counts as a folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxSelection:
    """Which boxes take part."""

    where: Where = None
    classes: Sequence[str | int] | None = None
    min_score: float | None = None
    max_area: float = 1.0
    """Largest share of the image."""
    levels: int = 0
    """How many folders above that of the image make one place."""
    by: str | None = None
    """Column whose values stand for places, instead of folders."""


@dataclass(slots=True)
class FolderBoxes:
    """Spreads the boxes of a run over files, so that all boxes of one folder are in one file.

    Args:
        opened: The run.
        model: A detection model.
        selection: Boxes that take part.

    Raises:
        UsageError: If a class or a column does not exist.
    """

    opened: OpenedOutput
    model: ModelSpec
    selection: BoxSelection
    images: int = 0
    boxes: int = 0
    excluded: Counter[str] = field(default_factory=Counter)
    folders: dict[str, int] = field(default_factory=dict)

    def iter_partitions(self) -> Iterator[Boxes]:
        """Read all boxes once, and yield those of some whole folders at once."""
        with tempfile.TemporaryDirectory(prefix="cvbatch-boxes-") as folder:
            paths = [Path(folder, str(number)) for number in range(_PARTITIONS)]
            files = [path.open("wb") for path in paths]
            try:
                self._spread(files)
            finally:
                for file in files:
                    file.close()
            for path in paths:
                if path.stat().st_size:
                    yield np.fromfile(path, BOX_TYPE)

    def _spread(self, files: Sequence[IO[bytes]]) -> None:
        alias, by = self.model.alias, self.selection.by or IMAGE_URI
        check_group_column(by, self.opened.schema)
        lists = [f"{alias}_{name}" for name in ("boxes", "label_ids", "scores")]
        columns = [ROW_ID, by, WIDTH, HEIGHT, STATUS, SOURCE_REMOVED, *lists]
        label_ids = None
        if self.selection.classes is not None:
            label_ids = label_ids_of_classes(self.model, self.selection.classes).to_numpy()
        rows = RowSelection(columns=list(dict.fromkeys(columns)), where=self.selection.where)
        for table in iter_rows(self.opened, rows, batch_rows=_BATCH_ROWS):
            boxes = self._take_boxes(self._without_failed(table), by, lists, label_ids)
            self.boxes += len(boxes)
            order = np.argsort(boxes["folder"] % _PARTITIONS, kind="stable")
            numbers, starts = np.unique(boxes["folder"][order] % _PARTITIONS, return_index=True)
            for number, part in zip(numbers.tolist(), np.split(boxes[order], starts[1:]), strict=False):
                part.tofile(files[number])

    def _without_failed(self, table: pa.Table) -> pa.Table:
        is_removed, is_ok = table[SOURCE_REMOVED], pc.equal(table[STATUS], OK)
        self.excluded["removed from the source"] += pc.sum(is_removed).as_py() or 0
        self.excluded["errors"] += pc.sum(pc.and_not(pc.invert(is_ok), is_removed)).as_py() or 0
        table = table.filter(pc.and_not(is_ok, is_removed)).combine_chunks()
        self.images += len(table)
        return table

    def _take_boxes(
        self, table: pa.Table, by: str, lists: Sequence[str], label_ids: npt.NDArray[np.int32] | None
    ) -> Boxes:
        corners, labels, scores = (table[name].combine_chunks() for name in lists)
        counts = pc.fill_null(pc.list_value_length(labels), 0).to_numpy().astype(np.int64)
        owners = np.repeat(np.arange(len(table)), counts)
        boxes = np.empty(len(owners), BOX_TYPE)
        boxes["folder"] = self._folder_ids(table, by)[owners]
        boxes["row"] = table[ROW_ID].to_numpy()[owners]
        boxes["index"] = np.arange(len(owners)) - np.repeat(np.cumsum(counts) - counts, counts)
        boxes["label"] = pc.list_flatten(labels).to_numpy(zero_copy_only=False)
        boxes["score"] = pc.list_flatten(scores).to_numpy(zero_copy_only=False)
        boxes["box"] = pc.list_flatten(pc.list_flatten(corners)).to_numpy(zero_copy_only=False).reshape(-1, 4)
        for column, name in enumerate((WIDTH, HEIGHT)):
            boxes["size"][:, column] = pc.fill_null(table[name], 1).to_numpy()[owners]
        return boxes[self._takes_part(boxes, label_ids)]

    def _takes_part(self, boxes: Boxes, label_ids: npt.NDArray[np.int32] | None) -> npt.NDArray[np.bool_]:
        sides = boxes["box"][:, 2:] - boxes["box"][:, :2]
        takes_part: npt.NDArray[np.bool_] = (sides > 0).all(axis=1)
        takes_part &= sides.prod(axis=1) <= self.selection.max_area * boxes["size"].prod(axis=1)
        if self.selection.min_score is not None:
            takes_part &= boxes["score"] >= np.float32(self.selection.min_score)
        if label_ids is not None:
            takes_part &= np.isin(boxes["label"], label_ids)
        return takes_part

    def _folder_ids(self, table: pa.Table, by: str) -> npt.NDArray[np.int32]:
        """Number of the folder of each image; new folders get the next numbers."""
        values = pc.fill_null(table[by].cast(pa.string()), "")
        if self.selection.by is None:
            values = pc.replace_substring_regex(values, _CONTAINER, r"\1/")
            pattern = rf"^(?P<folder>.*?)(?:/[^/]*){{0,{self.selection.levels + 1}}}$"
            values = pc.struct_field(pc.extract_regex(values, pattern), "folder")
        encoded = pc.dictionary_encode(values.combine_chunks())
        names = [name or "" for name in encoded.dictionary.to_pylist()]
        numbers = np.array([self.folders.setdefault(name, len(self.folders)) for name in names], np.int32)
        indices = encoded.indices.to_numpy()
        return numbers[indices] if len(numbers) else np.empty(0, np.int32)
