"""In which share of the images of a folder, or of a month, a label is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cvbatch.report.image_names import ImageNames
from cvbatch.report.label_counts import LabelCounter
from cvbatch.report.label_values import Codes
from cvbatch.report.page_data import LabelShares
from cvbatch.schema import EXIF_FIELDS, IMAGE_URI

CAPTURED_AT: Final = EXIF_FIELDS[0].name
MOST_GROUPS: Final = 24
_LABELS: Final = 12
_MOST_FOLDERS: Final = 50_000
"""Different folders that are counted; a source with more of them is grouped by those that come first."""
_DIGITS: Final = 4

Grouping = Callable[[pa.Table], Codes]
"""The group of each row, (rows,); -1 for none that is shown."""


class GroupCounter:
    """Counts images by folder and by month of capture.

    Args:
        names: Of the sources.
        has_time: Whether the run has a column with the time of capture.
    """

    def __init__(self, names: ImageNames, *, has_time: bool) -> None:
        self._names, self._has_time = names, has_time
        self.folders, self.months = Counter[str](), Counter[str]()

    @property
    def columns(self) -> list[str]:
        """As a `RowCollector`."""
        return [IMAGE_URI, *([CAPTURED_AT] if self._has_time else [])]

    def add_rows(self, rows: pa.Table) -> None:
        """Count some rows."""
        for folder, count in _count_values(self._names.folders_of(rows[IMAGE_URI])):
            if folder in self.folders or len(self.folders) < _MOST_FOLDERS:
                self.folders[folder] += count
        if self._has_time:
            self.months.update(dict(_count_values(_months_of(rows))))


class ShareCounter:
    """Counts the most frequent labels of one model by group.

    Args:
        counter: All labels of the model.
        group: Such as `folder`.
        groups: Names of the groups.
        grouping: Says to which group a row belongs.
        columns: Columns that `grouping` needs.
    """

    def __init__(
        self, counter: LabelCounter, group: str, groups: Sequence[str], grouping: Grouping, columns: Sequence[str]
    ) -> None:
        self._reader, self._group, self._groups = counter.reader, group, list(groups)
        self._grouping, self._columns = grouping, columns
        self._labels = counter.most_frequent(_LABELS)
        self._place = np.full(len(counter.images), -1)
        self._place[self._labels] = np.arange(len(self._labels))
        self._images = np.zeros(len(groups), np.int64)
        self._counts = np.zeros((len(groups), len(self._labels)), np.int64)

    @property
    def columns(self) -> list[str]:
        """As a `RowCollector`."""
        return [*self._reader.columns, *self._columns]

    def add_rows(self, rows: pa.Table) -> None:
        """Count some rows."""
        groups, values = self._grouping(rows), self._reader.read(rows)
        self._images += np.bincount(groups[groups >= 0], minlength=len(self._images))
        places, owners = self._place[values.codes], values.owners
        wanted = (places >= 0) & (groups[owners] >= 0)
        width = len(self._labels)
        pairs = np.unique(owners[wanted] * width + places[wanted])
        cells = groups[pairs // max(width, 1)] * width + pairs % max(width, 1)
        self._counts += np.bincount(cells, minlength=self._counts.size).reshape(self._counts.shape)

    def finish(self) -> LabelShares:
        """The shares."""
        shares = self._counts / np.maximum(self._images, 1)[:, None]
        names = [self._reader.names[code] for code in self._labels]
        return LabelShares(self._group, self._groups, self._images.tolist(), names, shares.round(_DIGITS).tolist())


class FolderGroups:
    """The folders that are compared: the deepest level with few of them, else the largest of the first level.

    Args:
        names: Of the sources.
        folders: Images of each folder.
    """

    def __init__(self, names: ImageNames, folders: Counter[str]) -> None:
        self._names, self._level = names, 1
        deepest = max((folder.count("/") + 1 for folder in folders), default=1)
        for level in range(deepest, 0, -1):
            counts = Counter[str]()
            for folder, count in folders.items():
                counts[_cut_folder(folder, level)] += count
            if len(counts) <= MOST_GROUPS or level == 1:
                self._level = level
                self.groups = sorted(name for name, _ in counts.most_common(MOST_GROUPS))
                self.is_complete = len(counts) <= MOST_GROUPS
                break
        else:
            self.groups, self.is_complete = [], True
        self._numbers = {name: number for number, name in enumerate(self.groups)}

    def group_rows(self, rows: pa.Table) -> Codes:
        """As a `Grouping`."""
        folders = self._names.folders_of(rows[IMAGE_URI])
        numbers = [self._numbers.get(_cut_folder(name, self._level), -1) for name in folders.dictionary.to_pylist()]
        groups: Codes = np.array(numbers, np.int64)[folders.indices.to_numpy()]
        return groups


def group_by_month(months: Sequence[str]) -> Grouping:
    """Group rows by their column with the time of capture.

    Args:
        months: Such as `2024-05`, the groups.
    """

    def group_rows(rows: pa.Table) -> Codes:
        positions = pc.index_in(_months_of(rows), pa.array(months, pa.string()))
        groups: Codes = pc.fill_null(positions, -1).to_numpy().astype(np.int64)
        return groups

    return group_rows


def _months_of(rows: pa.Table) -> pa.ChunkedArray:
    return pc.strftime(rows[CAPTURED_AT], "%Y-%m")


def _cut_folder(folder: str, level: int) -> str:
    return "/".join(folder.split("/")[:level])


def _count_values(values: pa.Array | pa.ChunkedArray) -> list[tuple[str, int]]:
    counts = pc.value_counts(values.cast(pa.string()).drop_null())
    return list(zip(counts.field("values").to_pylist(), counts.field("counts").to_pylist(), strict=True))
