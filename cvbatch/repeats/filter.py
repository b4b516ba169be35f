"""Which boxes an export leaves out because they repeat."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from cvbatch.errors import UsageError
from cvbatch.models.spec import ModelSpec
from cvbatch.repeats.repeats import BOX_INDEX, QUESTION
from cvbatch.results.answer_files import AnswerFile, AnswerRecord
from cvbatch.results.committed import OpenedOutput, Output, Storage
from cvbatch.schema import ROW_ID
from cvbatch.storage.location import Location
from cvbatch.storage.options import StorageOptions

_INDEX_BITS: Final = 20
"""A million boxes of one image."""


class RepeatFilter:
    """Knows the boxes of an answer of `cvbatch repeats`, or of the rows that a person has left in it.

    Args:
        row_ids: Image of each box, (n,).
        box_indices: Position of each box in the lists of its image, (n,).
    """

    def __init__(self, row_ids: npt.NDArray[np.int64], box_indices: npt.NDArray[np.int64]) -> None:
        self._keys = np.unique(_to_keys(row_ids, box_indices))

    def __len__(self) -> int:
        """Number of boxes."""
        return len(self._keys)

    def is_repeat(self, row_ids: npt.NDArray[np.int64], box_indices: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Whether each of some boxes repeats: (n,)."""
        keys = _to_keys(row_ids, box_indices)
        places = np.searchsorted(self._keys, keys)
        found = np.zeros(len(keys), np.bool_)
        is_inside = places < len(self._keys)
        found[is_inside] = self._keys[places[is_inside]] == keys[is_inside]
        return found


def open_repeat_filter(opened: OpenedOutput, model: ModelSpec, place: Output, storage: Storage = None) -> RepeatFilter:
    """Open an answer of `cvbatch repeats` to filter boxes by it.

    Rows may have been deleted from the file after a look at the picture. If that was done with pandas, which loses the
    record in the file, it is not checked that the boxes are those of this run.

    Args:
        opened: The run.
        model: Its detection model.
        place: The Parquet file.
        storage: Options for an object store.

    Raises:
        UsageError: If it is no such answer, or that of another run, of another model or of rows that have changed.
    """
    location = Location.from_path_or_uri(place, StorageOptions.from_mapping(storage or {}))
    answer = AnswerFile(location, QUESTION).read_edited()
    if answer is None:
        raise UsageError(f"{location} is missing; make it with cvbatch {QUESTION}")
    table, record = answer
    if missing := {ROW_ID, BOX_INDEX} - set(table.column_names):
        raise UsageError(f"{location} has no column {min(missing)}; expected an answer of cvbatch {QUESTION}")
    if record is not None:
        _check_record(opened, model, location, record)
    return RepeatFilter(table[ROW_ID].to_numpy(), table[BOX_INDEX].to_numpy())


def _check_record(opened: OpenedOutput, model: ModelSpec, location: Location, record: AnswerRecord) -> None:
    """Check that an answer is about a model of this run, as its rows are now."""
    remedy = f"make it anew with cvbatch {QUESTION}"
    if record.options.get("plan") != opened.plan.nonce:
        raise UsageError(f"{location} is about another run; expected one about {opened.store.root}: {remedy}")
    if record.options.get("model") != model.alias:
        raise UsageError(f"{location} is about model {record.options.get('model')}; expected {model.alias}")
    if set(record.files) - {file.path for file in opened.committed_files().files}:
        raise UsageError(f"{location} was made before images were labelled again; {remedy}")


def _to_keys(row_ids: npt.NDArray[np.int64], box_indices: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    keys: npt.NDArray[np.int64] = (row_ids.astype(np.int64) << _INDEX_BITS) | box_indices.astype(np.int64)
    return keys
