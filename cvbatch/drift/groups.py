"""Which folders, or values of a column, are farthest from the reference."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cvbatch.drift.compare import LARGEST_P, LEAST_EFFECT, LEAST_ROWS
from cvbatch.drift.run_sample import RunSample
from cvbatch.drift.statistics import Shift, compare_values, correct_for_many

MOST_GROUPS: Final = 1000
"""Groups that are compared: those with the most images."""
_MISSING: Final = "(none)"


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupShift:
    """How far one group is from the reference."""

    group: str
    images: int
    """Images of the sample in this group."""
    signal: str
    """The signal with the largest effect."""
    effect: float
    p: float
    """Corrected for all groups and signals."""
    reference: float
    """Median of the reference."""
    value: float
    """Median of the group."""

    @property
    def is_flagged(self) -> bool:
        """Whether the difference is large, and not by chance."""
        return self.effect >= LEAST_EFFECT and self.p < LARGEST_P


def compare_groups(reference: RunSample, sample: RunSample) -> list[GroupShift]:
    """Compare each group with the whole reference, by all numbers.

    Args:
        reference: What the model is at home with.
        sample: Has groups.

    Returns:
        The farthest group first. Groups with fewer than 20 images are left out.
    """
    found = list(_shifts_of_groups(reference, sample))
    p_values = correct_for_many([shift.p for *_, shift in found])
    best = dict[str, GroupShift]()
    for (name, images, signal, medians, shift), p in zip(found, p_values, strict=True):
        group = GroupShift(
            group=name,
            images=images,
            signal=signal,
            effect=shift.effect,
            p=p,
            reference=medians[0],
            value=medians[1],
        )
        if name not in best or (group.is_flagged, group.effect) > (best[name].is_flagged, best[name].effect):
            best[name] = group
    return sorted(best.values(), key=lambda group: (not group.is_flagged, -group.effect, group.group))


def _shifts_of_groups(
    reference: RunSample, sample: RunSample
) -> Iterator[tuple[str, int, str, tuple[float, float], Shift]]:
    names, codes = _group_codes(sample.groups)
    sizes = np.bincount(codes, minlength=len(names))
    for code in np.argsort(-sizes, kind="stable")[:MOST_GROUPS]:
        is_member = codes == code
        for signal in sorted(sample.values.keys() & reference.values.keys()):
            before = reference.values[signal]
            before, values = before[~np.isnan(before)], sample.values[signal][is_member]
            values = values[~np.isnan(values)]
            if len(before) >= LEAST_ROWS and len(values) >= LEAST_ROWS:
                medians = float(np.median(before)), float(np.median(values))
                yield names[code], int(sizes[code]), signal, medians, compare_values(before, values)


def _group_codes(groups: Any) -> tuple[list[str], npt.NDArray[np.integer[Any]]]:
    encoded = pc.fill_null(groups, _MISSING).combine_chunks()
    encoded = pa.concat_arrays(encoded.chunks) if isinstance(encoded, pa.ChunkedArray) else encoded
    encoded = encoded.dictionary_encode()
    return encoded.dictionary.to_pylist(), encoded.indices.to_numpy()
