"""Which row of one run is about the same image as which row of another."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cvbatch.errors import UsageError
from cvbatch.results.committed import OpenedOutput
from cvbatch.results.streaming import RowSelection, iter_rows
from cvbatch.results.where import Where
from cvbatch.schema import CONTENT_SHA256, IMAGE_URI, OK, ROW_ID, SOURCE_REMOVED, STATUS

Ints = npt.NDArray[np.int64]
Keys = npt.NDArray[np.uint64]

NO_PAIR: Final = -1
_BATCH_ROWS: Final = 131_072
_HEX_DIGITS: Final = 16
"""Digits of a hash that are compared: two of 24 million images have the same ones once in 60,000 runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRows:
    """The rows of a run that can be compared; 24 bytes a row."""

    name: str
    """Location of the run."""
    row_ids: Ints
    contents: Keys
    uris: Keys
    failed: int
    """Rows with an error."""
    removed: int
    """Rows of images that were removed from the source."""
    example: str | None
    """Location of an image."""


@dataclass(frozen=True, kw_only=True)
class PairedRows:
    """Rows of two runs about the same images; aligned, in the order of the first run."""

    matched_by: str
    first: Ints
    """(pairs,) row ids, ascending."""
    second: Ints
    """(pairs,) row ids."""
    runs: tuple[RunRows, RunRows]

    def pair_indices(self, side: int, row_ids: Ints) -> Ints:
        """Pair of each of some rows of one run, or `NO_PAIR`.

        Args:
            side: 0 for the first run, 1 for the second.
            row_ids: (n,)
        """
        ids, pairs = self._sorted_sides[side]
        positions = np.minimum(np.searchsorted(ids, row_ids), len(ids) - 1)
        return np.where(ids[positions] == row_ids, pairs[positions], NO_PAIR)

    @cached_property
    def _sorted_sides(self) -> tuple[tuple[Ints, Ints], tuple[Ints, Ints]]:
        """For each side the row ids in ascending order, and their pairs."""
        order = np.argsort(self.second, kind="stable")
        return (self.first, np.arange(len(self.first))), (self.second[order], order)

    def to_json(self) -> dict[str, Any]:
        """The counts as plain data."""
        first, second = self.runs
        return {
            "images": len(self.first),
            "matched_by": self.matched_by,
            "only_first": len(first.row_ids) - len(self.first),
            "only_second": len(second.row_ids) - len(self.second),
            "failed_first": first.failed,
            "failed_second": second.failed,
            "removed_first": first.removed,
            "removed_second": second.removed,
        }


def pair_runs(first: OpenedOutput, second: OpenedOutput, where: Where = None) -> PairedRows:
    """Pair the rows of two runs by content, or by location if more of them fit.

    Several images with the same bytes are paired in their order.

    Args:
        first: A run.
        second: Another run, or the same.
        where: Condition on the rows of both.

    Raises:
        UsageError: If no image is in both; the message has an example of each.
    """
    runs = (_read_rows(first, where), _read_rows(second, where))
    by_content = _match_keys(runs[0].contents, runs[1].contents)
    by_uri = _match_keys(runs[0].uris, runs[1].uris)
    is_by_uri = len(by_uri[0]) > len(by_content[0])
    places = by_uri if is_by_uri else by_content
    if not len(places[0]):
        raise UsageError(
            f"expected runs over the same images; got {runs[0].name} with {runs[0].example or 'no row to compare'} and "
            f"{runs[1].name} with {runs[1].example or 'no row to compare'}, and no content or location is in both"
        )
    ids = [run.row_ids[part] for run, part in zip(runs, places, strict=True)]
    order = np.argsort(ids[0], kind="stable")
    matched_by = IMAGE_URI if is_by_uri else CONTENT_SHA256
    return PairedRows(matched_by=matched_by, first=ids[0][order], second=ids[1][order], runs=runs)


def _read_rows(opened: OpenedOutput, where: Where) -> RunRows:
    columns = [ROW_ID, IMAGE_URI, CONTENT_SHA256, STATUS, SOURCE_REMOVED]
    row_ids, contents, uris = [np.zeros(0, np.int64)], [np.zeros(0, np.uint64)], [np.zeros(0, np.uint64)]
    failed, removed, example = 0, 0, None
    for table in iter_rows(opened, RowSelection(columns=columns, where=where), batch_rows=_BATCH_ROWS):
        there = table.filter(pc.invert(table[SOURCE_REMOVED]))
        usable = there.filter(pc.equal(there[STATUS], OK))
        removed, failed = removed + table.num_rows - there.num_rows, failed + there.num_rows - usable.num_rows
        if not usable.num_rows:
            continue
        example = example or usable[IMAGE_URI][0].as_py()
        row_ids.append(usable[ROW_ID].to_numpy())
        contents.append(_hash_contents(usable[CONTENT_SHA256]))
        uris.append(_hash_texts(usable[IMAGE_URI]))
    return RunRows(
        name=str(opened.store.root),
        row_ids=np.concatenate(row_ids),
        contents=np.concatenate(contents),
        uris=np.concatenate(uris),
        failed=failed,
        removed=removed,
        example=example,
    )


def _hash_contents(hashes: pa.ChunkedArray) -> Keys:
    """The first 64 bits of hashes in hexadecimal digits; 0 where there is none."""
    filled = pc.fill_null(pc.utf8_slice_codeunits(hashes, 0, _HEX_DIGITS), "0" * _HEX_DIGITS)
    text = filled.to_numpy().astype(f"S{_HEX_DIGITS}")
    characters = text.view(np.uint8).reshape(len(text), _HEX_DIGITS).astype(np.uint64)
    digits = np.where(characters >= ord("a"), characters - (ord("a") - 10), characters - ord("0"))
    powers = np.uint64(1) << (np.uint64(4) * np.arange(_HEX_DIGITS - 1, -1, -1, dtype=np.uint64))
    keys: Keys = (digits * powers).sum(axis=1, dtype=np.uint64)
    return keys


def _hash_texts(texts: pa.ChunkedArray) -> Keys:
    import pandas as pd

    keys: Keys = pd.util.hash_array(texts.to_numpy(), categorize=False)
    return keys


def _match_keys(first: Keys, second: Keys) -> tuple[Ints, Ints]:
    """Positions of equal keys; the first of several equal ones belongs to the first of the other side, and so on."""
    orders = [np.argsort(keys, kind="stable") for keys in (first, second)]
    ours, theirs = first[orders[0]], second[orders[1]]
    number = np.arange(len(ours)) - np.searchsorted(ours, ours)
    places = np.searchsorted(theirs, ours) + number
    is_match = places < len(theirs)
    is_match[is_match] = theirs[places[is_match]] == ours[is_match]
    is_match &= ours != 0
    return orders[0][is_match], orders[1][places[is_match]]
