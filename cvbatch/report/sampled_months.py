"""Shares of labels over time of capture, from the images that are read for their pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from cvbatch.report.label_shares import MOST_GROUPS
from cvbatch.report.page_data import GalleryImage, LabelSection, LabelShares

_LABELS: Final = 12
_FEWEST: Final = 2
"""Months that are worth a comparison."""
_DIGITS: Final = 4


def add_sampled_months(
    sections: Sequence[LabelSection],
    images: Sequence[GalleryImage],
    months: Mapping[int, str],
    multiple: Sequence[str],
) -> list[LabelSection]:
    """Add the shares over months, if the images say when they were captured.

    Args:
        sections: Labels of each model.
        images: Those that were read.
        months: By row id, such as `2024-05`.
        multiple: Aliases of the models that give several labels for an image; of the others only the first counts.
    """
    shown = sorted(set(months.values()))[-MOST_GROUPS:]
    dated = [image for image in images if months.get(image.row_id) in shown]
    if len(shown) < _FEWEST:
        return list(sections)
    return [
        replace(section, shares=[*section.shares, _count_shares(section, dated, months, shown, multiple)])
        for section in sections
    ]


def _count_shares(
    section: LabelSection,
    images: Sequence[GalleryImage],
    months: Mapping[int, str],
    shown: Sequence[str],
    multiple: Sequence[str],
) -> LabelShares:
    labels = [count.label for count in section.counts[:_LABELS]]
    counts, totals = np.zeros((len(shown), len(labels))), np.zeros(len(shown), np.int64)
    for image in images:
        given = [element.label for element in image.elements if element.alias == section.alias]
        given = given if section.alias in multiple else given[:1]
        month = shown.index(months[image.row_id])
        totals[month] += 1
        for label in {*given} & {*labels}:
            counts[month, labels.index(label)] += 1
    shares = (counts / np.maximum(totals, 1)[:, None]).round(_DIGITS).tolist()
    return LabelShares(
        f"month of capture ({int(totals.sum()):,} of the images below)", list(shown), totals.tolist(), labels, shares
    )
