"""Turns the list columns of a model into one row per element: a row for each box, or for each class in an image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cvbatch.errors import UsageError
from cvbatch.models.spec import ModelSpec
from cvbatch.results.where import check_min_score, check_names

LABEL_IDS: Final = "label_ids"
"""Short name of the list of label ids, which all models with elements have."""
MAX_ELEMENTS: Final = 131_072
"""Elements of a table by default. With boxes, a URI and a mask of 1,000 bytes that is about 150 MB."""


ELEMENT_INDEX: Final = "element_index"
"""A column that can be wanted of every model: the position of an element in the lists of its image, int64."""


@dataclass(frozen=True, slots=True)
class ElementColumn:
    """A column with one value per element."""

    list_name: str
    """Short name of the list column that it comes from."""
    position: int | None = None
    """Which number of each element, if the elements are four numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ElementSelection:
    """Which elements and columns to read."""

    columns: Sequence[str] | None = None
    """Columns of the elements and of the images; None for the usual ones."""
    threshold_list: str = "scores"
    """Short name of the list that `minimum` is about."""
    minimum: float | None = None
    """Elements with a lower value in `threshold_list` are dropped."""
    classes: Sequence[str | int] | None = None
    """Names or ids of the categories to keep."""


class ElementTable:
    """Flattens the rows of one model.

    Args:
        model: The model.
        element_columns: Columns of the elements by name; those that the model does not have are left out.
        image_columns: Columns of the image that come first by default.
        all_image_columns: Columns of the image that may be wanted.
        selection: What to read.

    Raises:
        UsageError: If a column or a class does not exist, or the minimum is no number.
    """

    def __init__(
        self,
        model: ModelSpec,
        element_columns: Mapping[str, ElementColumn],
        image_columns: Sequence[str],
        all_image_columns: Sequence[str],
        selection: ElementSelection,
    ) -> None:
        stored = {field.name for field in model.column_fields()}
        self._prefix = f"{model.alias}_"
        self._element_columns = {
            name: column for name, column in element_columns.items() if self._prefix + column.list_name in stored
        }
        self._columns = [*image_columns, *self._element_columns] if selection.columns is None else selection.columns
        check_names("column", self._columns, [*self._element_columns, ELEMENT_INDEX, *all_image_columns])
        check_min_score(selection.minimum)
        self._threshold_list, self._minimum = selection.threshold_list, selection.minimum
        self._label_ids = None if selection.classes is None else label_ids_of_classes(model, selection.classes)

    @property
    def columns(self) -> list[str]:
        """The wanted columns, in their order."""
        return list(self._columns)

    @property
    def element_columns(self) -> list[str]:
        """All columns that the elements have, wanted or not; they hide columns of the image with the same name."""
        return list(self._element_columns)

    def stored_columns(self) -> list[str]:
        """Columns of the predictions that `flatten` needs."""
        lists = [self._element_columns[name].list_name for name in self._columns if name in self._element_columns]
        if self._minimum is not None:
            lists.append(self._threshold_list)
        image_columns = self._wanted_image_columns()
        return list(dict.fromkeys([*image_columns, *(self._prefix + name for name in (LABEL_IDS, *lists))]))

    def iter_flattened(self, rows: pa.Table, max_elements: int = MAX_ELEMENTS) -> Iterator[pa.Table]:
        """Flatten some rows in tables of bounded size.

        Args:
            rows: As for `flatten`.
            max_elements: Most elements of the rows of one table; more only where one image has more.

        Yields:
            What `flatten` gives for consecutive rows.
        """
        rows = rows.combine_chunks()
        counts = pc.fill_null(pc.list_value_length(self._list(rows, LABEL_IDS)), 0)
        ends = np.cumsum(counts.to_numpy(zero_copy_only=False), dtype=np.int64)
        first = 0
        while first < rows.num_rows:
            before = ends[first - 1] if first else 0
            stop = max(first + 1, int(np.searchsorted(ends, before + max_elements, side="right")))
            yield self.flatten(rows.slice(first, stop - first))
            first = stop

    def flatten(self, rows: pa.Table) -> pa.Table:
        """Flatten some rows.

        Args:
            rows: Has `stored_columns`; rows of failed images have null lists.

        Returns:
            One row per element that is kept, with the wanted columns.
        """
        rows = rows.combine_chunks()
        label_ids = self._list(rows, LABEL_IDS)
        image_indices = pc.list_parent_indices(label_ids)
        kept = self._kept_elements(rows)
        if kept is not None:
            image_indices = image_indices.take(kept)
        images = rows.select(self._wanted_image_columns()).take(image_indices)
        arrays = {
            name: images[name] if name in images.column_names else self._element_values(rows, name, kept)
            for name in self._columns
        }
        return pa.table(arrays)

    def _kept_elements(self, rows: pa.Table) -> pa.Array | None:
        """Positions of the elements that are kept; None if all are."""
        masks = []
        if self._minimum is not None:
            masks.append(pc.greater_equal(pc.list_flatten(self._list(rows, self._threshold_list)), self._minimum))
        if self._label_ids is not None:
            masks.append(pc.is_in(pc.list_flatten(self._list(rows, LABEL_IDS)), self._label_ids))
        if not masks:
            return None
        return pc.indices_nonzero(masks[0] if len(masks) == 1 else pc.and_(*masks))

    def _wanted_image_columns(self) -> list[str]:
        return [name for name in self._columns if name not in (*self._element_columns, ELEMENT_INDEX)]

    def _element_values(self, rows: pa.Table, name: str, kept: pa.Array | None) -> pa.Array:
        column = self._element_columns.get(name, ElementColumn(LABEL_IDS))
        values = pc.list_flatten(self._list(rows, column.list_name))
        if name == ELEMENT_INDEX:
            values = _positions_in_lists(self._list(rows, column.list_name))
        elif column.position is not None:
            numbers: npt.NDArray[np.float32] = pc.list_flatten(values).to_numpy(zero_copy_only=False)
            values = pa.array(np.ascontiguousarray(numbers.reshape(-1, 4)[:, column.position]))
        return values if kept is None else values.take(kept)

    def _list(self, rows: pa.Table, list_name: str) -> pa.Array:
        column = rows[self._prefix + list_name]
        return column.chunk(0) if column.num_chunks else pa.array([], column.type)


def _positions_in_lists(lists: pa.ListArray) -> pa.Array:
    """The position of each element in its list."""
    counts = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    starts = np.repeat(np.cumsum(counts) - counts, counts)
    return pa.array(np.arange(len(starts)) - starts)


def label_ids_of_classes(model: ModelSpec, classes: Sequence[str | int]) -> pa.Array:
    """Label ids of some classes.

    Args:
        model: Has the categories.
        classes: Names or ids; several ids may have one name.

    Raises:
        UsageError: If the model has no such class; the message has similar names.
    """
    known = [name for name in model.categories if name is not None]
    names = [given for given in classes if isinstance(given, str)]
    check_names("class", names, known)
    for label_id in set(classes) - set(names):
        if not 0 <= int(label_id) < len(model.categories) or model.categories[int(label_id)] is None:
            raise UsageError(f"there is no class {label_id}; expected ids of {model.alias} or names")
    chosen = [index for index, name in enumerate(model.categories) if name is not None and {name, index} & {*classes}]
    return pa.array(chosen, pa.int32())
