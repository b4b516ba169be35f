"""What an edit has done, from its audit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import pyarrow.compute as pc

from cvbatch.edits.editing import audit_location
from cvbatch.results.committed import open_output
from cvbatch.results.error_groups import ErrorCounter, ErrorKind
from cvbatch.results.streaming import RowSelection, iter_rows
from cvbatch.schema import EDIT_LABELS, EDIT_NOTE, EDIT_PATHS, ERROR, ERROR_TYPE, STATUS
from cvbatch.storage.location import Location

_EXAMPLES: Final = 3
"""Images that are named for each reason of errors."""


@dataclass(frozen=True, slots=True)
class EditAnswer:
    """What an edit has done."""

    to: str
    """Where the files are."""
    audit: str
    """A run of its own: one row for each image; `cvbatch.read` reads it."""
    images: int
    edited: int
    """Images without an error."""
    files: int
    objects: Mapping[str, int]
    """Edited objects by class."""
    errors: Mapping[str, int]
    """Images in error by type; nothing is written for them."""
    failed: Sequence[ErrorKind]
    """The same with examples, and what to do about it."""
    notes: Mapping[str, int]
    """Images by what there is to say, such as that HEIC is written as JPEG."""
    sheet: str | None = None
    """Picture of the objects that just missed the threshold."""
    near_misses: int = 0
    kept_from: float | None = None
    """Score from which on the run has kept boxes, if that is above the threshold asked for."""

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def summarize_edit(to: Location) -> EditAnswer:
    """Count what an edit has done.

    Args:
        to: Where its files are.
    """
    audit = audit_location(to)
    images = files = failed = 0
    kinds = ErrorCounter(_EXAMPLES)
    counts: dict[str, Counter[str]] = {name: Counter() for name in (EDIT_LABELS, ERROR_TYPE, EDIT_NOTE)}
    selection = RowSelection(columns=[STATUS, EDIT_NOTE, EDIT_LABELS, EDIT_PATHS, *kinds.columns])
    for table in iter_rows(open_output(audit), selection):
        images += table.num_rows
        is_failed = pc.equal(table[STATUS], ERROR)
        done, in_error = table.filter(pc.invert(is_failed)), table.filter(is_failed)
        failed += in_error.num_rows
        kinds.add_rows(in_error)
        files += len(pc.list_flatten(table[EDIT_PATHS]))
        for name, values in (
            (EDIT_LABELS, pc.list_flatten(done[EDIT_LABELS])),
            (ERROR_TYPE, table[ERROR_TYPE]),
            (EDIT_NOTE, table[EDIT_NOTE]),
        ):
            pairs = pc.value_counts(values.drop_null())
            counts[name].update(
                dict(zip(pairs.field("values").to_pylist(), pairs.field("counts").to_pylist(), strict=True))
            )
    labels, errors, notes = (dict(counts[name].most_common()) for name in (EDIT_LABELS, ERROR_TYPE, EDIT_NOTE))
    return EditAnswer(str(to), str(audit), images, images - failed, files, labels, errors, kinds.finish(), notes)
