"""Evaluates segmentation: IoU, pixel accuracy and boundary F1."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, cast

import numpy as np
import numpy.typing as npt

from cvbatch.errors import UsageError
from cvbatch.evaluation.base import Comparison, Evaluator
from cvbatch.evaluation.bootstrap import Estimate, Floats, Ints, WeightedSums, draw_estimates, plain_number
from cvbatch.evaluation.boundary_f1 import BOUNDARY_TOLERANCE, boundary_f1
from cvbatch.evaluation.cell_examples import CellExamples
from cvbatch.evaluation.report import Metrics
from cvbatch.evaluation.segment_metrics import count_cells, segment_rates
from cvbatch.models.spec import ModelSpec
from cvbatch.results.list_columns import label_ids_of_classes
from cvbatch.results.streaming import RowSelection, iter_rows
from cvbatch.schema import HEIGHT, ROW_ID, WIDTH
from cvbatch.tasks import SEGMENTATION
from cvbatch.tasks.masks import decode_mask
from cvbatch.truth.base import IGNORED, Bools
from cvbatch.truth.class_names import number_classes
from cvbatch.truth.mask_files import MASK_READER, PixelTruth
from cvbatch.truth.painted_objects import PAINTED_READER

_MOST_CONFUSED: Final = 10
_BATCH_ROWS: Final = 64
_BLOCK_IMAGES: Final = 256


@dataclass(frozen=True, slots=True)
class ImageSegments:
    """Counts of one image; arrays are aligned with the classes that occur in it."""

    classes: Ints
    pixels: Ints
    """(3, n): pixels that agree, of the truth, and of the predictions."""
    boundary_classes: Ints
    boundary_scores: Floats
    """Boundary F1 of each of `boundary_classes`."""


@dataclass(slots=True)
class _Totals:
    """What is counted over all images."""

    pairs: Counter[tuple[int, int]] = field(default_factory=Counter)
    examples: CellExamples = field(default_factory=CellExamples)
    wrong_sizes: list[str] = field(default_factory=list)


class SegmentScorer:
    """Scores one model; holds a few hundred bytes for each image of the truth.

    Args:
        comparison: Predictions and truth; the truth is a `PixelTruth`.

    Raises:
        UsageError: If the truth names no class of the model, or no mask has the size of its image.
    """

    def __init__(self, comparison: Comparison) -> None:
        if comparison.min_score is not None:
            raise UsageError("segments have no score; leave out --min-score")
        self._truth = cast(PixelTruth, comparison.truth)
        self._model = comparison.model
        counts = [0] * len(self._truth.categories)
        self._numbers = number_classes(
            self._truth.categories, counts, self._model, self._truth.source, background=has_background(self._model)
        )
        self._numbers_of_positions = self._map_positions()
        self.classes = len(self._model.categories) + 1
        """Label ids, and one number for all classes that the model does not know."""
        self._chosen = self._choose_classes(comparison.classes)
        self._totals = _Totals()
        self.segments: dict[int, ImageSegments] = dict(self._iter_images(comparison))
        """By position in the truth."""
        self.notes: Sequence[str] = (*self._numbers.notes, *self._count_notes())
        if not self.segments:
            raise UsageError(
                f"{self._truth.source}: expected masks of the size of their images; "
                f"got {self._totals.wrong_sizes[0] if self._totals.wrong_sizes else 'none that takes part'}"
            )

    @property
    def examples(self) -> dict[tuple[str, str], list[int]]:
        """Images with the most pixels of a true class and an answer, by their names, as positions in the truth."""
        cells = self._totals.examples.by_cell().items()
        return {(self._class_name(true), self._class_name(answer)): images for (true, answer), images in cells}

    def score(self, images: Bools | None = None) -> dict[str, Metrics]:
        """See `Scorer.score`."""
        chosen = [part for image, part in self.segments.items() if images is None or images[image]]
        if not chosen:
            return {SEGMENTATION.name: Metrics(images=0, values={})}
        sums = WeightedSums(5 * self.classes + 2)
        for first in range(0, len(chosen), _BLOCK_IMAGES):
            sums.add_images(self.contributions(chosen[first : first + _BLOCK_IMAGES]))
        estimates = draw_estimates(self.rates(sums.total[None])[0], self.rates(sums.draws))
        means = dict(zip(("mIoU", "pixel accuracy", "mean accuracy", "boundary F1"), estimates[-4:], strict=True))
        metrics = Metrics(
            images=len(chosen),
            values={name: plain_number(estimate.value) for name, estimate in means.items()},
            intervals={name: (estimate.low, estimate.high) for name, estimate in means.items()},
            per_class=dict(self._class_rows(sums.total, estimates)),
            tables={"most confused": self._confused_rows()} if images is None else {},
            details=self._details(sums.total, estimates) if images is None else {},
        )
        return {SEGMENTATION.name: metrics}

    def contributions(self, images: Sequence[ImageSegments]) -> Floats:
        """What images add to the sums: (images, 5 × classes + 2).

        By class pixels that agree, of the truth and of the predictions, boundary F1, and whether there is a boundary;
        then the mean boundary F1 of the image, and whether it has one.
        """
        rows = np.zeros((len(images), 5 * self.classes + 2))
        for row, image in zip(rows, images, strict=True):
            by_class = row[:-2].reshape(5, self.classes)
            by_class[:3, image.classes] = image.pixels
            by_class[3, image.boundary_classes] = image.boundary_scores
            by_class[4, image.boundary_classes] = 1
            if len(image.boundary_scores):
                row[-2:] = image.boundary_scores.mean(), 1
        return rows

    def rates(self, sums: Floats) -> Floats:
        """Metrics from sums of contributions.

        Args:
            sums: (draws, 5 × classes + 2)

        Returns:
            (draws, 2 × classes + 4): IoU by class, boundary F1 by class, mean IoU, pixel accuracy, mean accuracy,
            boundary F1.
        """
        size = self.classes
        pixel_rates = segment_rates(sums[:, : 3 * size], size, self._chosen)
        with np.errstate(invalid="ignore"):
            boundaries = sums[:, 3 * size : 4 * size] / sums[:, 4 * size : 5 * size]
            mean = sums[:, -2:-1] / sums[:, -1:]
        return np.concatenate([pixel_rates[:, :size], boundaries, pixel_rates[:, size:], mean], axis=1)

    def _iter_images(self, comparison: Comparison) -> Iterator[tuple[int, ImageSegments]]:
        names = [f"{self._model.alias}_{short}" for short in ("label_ids", "masks")]
        selection = RowSelection(columns=[ROW_ID, WIDTH, HEIGHT, *names])
        for table in iter_rows(comparison.opened, selection, batch_rows=_BATCH_ROWS):
            images = comparison.alignment.truth_indices(table[ROW_ID].to_numpy())
            kept = np.flatnonzero(images >= 0)
            for image, row in zip(images[kept].tolist(), table.take(kept).to_pylist(), strict=True):
                predicted = paint_segments(
                    self._model, self._numbers.same_as[row[names[0]]], row[names[1]], (row[HEIGHT], row[WIDTH])
                )
                if (segments := self._count_image(image, predicted)) is not None:
                    yield image, segments

    def _count_image(self, image: int, predicted: npt.NDArray[np.int32]) -> ImageSegments | None:
        positions = self._truth.read_map(image, *predicted.shape)
        if positions.shape != predicted.shape:
            self._totals.wrong_sizes.append(_describe_sizes(self._truth, image, positions.shape, predicted.shape))
            return None
        truth = self._numbers_of_positions[positions]
        present, cells = count_cells(truth, predicted)
        for row, column in np.argwhere(cells).tolist():
            pair = int(present[row]), int(present[column])
            self._totals.pairs[pair] += int(cells[row, column])
            self._totals.examples.add(pair, int(cells[row, column]), image)
        known = present < self.classes
        pixels = np.stack([cells.diagonal(), cells.sum(axis=1), cells.sum(axis=0)])[:, known]
        return ImageSegments(present[known], pixels, *_known_boundaries(truth, predicted, self.classes))

    def _map_positions(self) -> npt.NDArray[np.int32]:
        """Class of each position in the categories of the truth, then of what is none of them and of ignored pixels."""
        numbers = np.minimum(self._numbers.label_ids, len(self._model.categories))
        background = self._truth.background
        if background is not None and numbers[background] == len(self._model.categories):
            numbers[background] = IGNORED
        return np.append(numbers, [len(self._model.categories), IGNORED]).astype(np.int32)

    def _choose_classes(self, classes: Sequence[str | int] | None) -> Bools | None:
        if classes is None:
            return None
        chosen = np.zeros(self.classes, np.bool_)
        chosen[label_ids_of_classes(self._model, classes).to_numpy()] = True
        return chosen

    def _class_name(self, number: int) -> str:
        if number >= self.classes - 1:
            return "(not known to the model)" if number == self.classes - 1 else "(nothing)"
        is_background = number == 0 and has_background(self._model)
        return "background" if is_background else self._numbers.names[number]

    def _class_rows(self, total: Floats, estimates: Sequence[Estimate]) -> Iterator[tuple[str, dict[str, Any]]]:
        _, truth, predicted = total[: 3 * self.classes].reshape(3, -1).astype(np.int64)
        for number in np.argsort(-truth, kind="stable"):
            if truth[number] + predicted[number] and (self._chosen is None or self._chosen[number]):
                yield (
                    self._class_name(int(number)),
                    {
                        "pixels": int(truth[number]),
                        "predicted": int(predicted[number]),
                        "IoU": plain_number(estimates[number].value),
                        "boundary F1": plain_number(estimates[self.classes + number].value),
                    },
                )

    def _confused_rows(self) -> list[dict[str, Any]]:
        totals = Counter[int]()
        for (true, _), pixels in self._totals.pairs.items():
            totals[true] += pixels
        wrong = [(pixels, pair) for pair, pixels in self._totals.pairs.items() if pair[0] != pair[1]]
        return [
            {
                "truth": self._class_name(true),
                "answer": self._class_name(answer),
                "pixels": pixels,
                "share": pixels / totals[true],
            }
            for pixels, (true, answer) in sorted(wrong, key=lambda item: (-item[0], item[1]))[:_MOST_CONFUSED]
        ]

    def _details(self, total: Floats, estimates: Sequence[Estimate]) -> dict[str, Any]:
        cells = sorted(self._totals.pairs.items())
        counted = total[self.classes : 2 * self.classes] + total[2 * self.classes : 3 * self.classes]
        return {
            "confusion": [
                [self._class_name(true), self._class_name(answer), pixels] for (true, answer), pixels in cells
            ],
            "class_intervals": {
                self._class_name(number): {
                    "IoU": [plain_number(estimates[number].low), plain_number(estimates[number].high)]
                }
                for number in np.flatnonzero(counted).tolist()
            },
        }

    def _count_notes(self) -> Iterator[str]:
        unknown = sum(pixels for (true, _), pixels in self._totals.pairs.items() if true == self.classes - 1)
        if unknown:
            share = unknown / max(1, self._totals.pairs.total())
            yield f"{share:.2%} of the pixels are of classes that {self._model.alias} does not know: wrong"
        background = self._truth.background
        if background is not None and self._numbers_of_positions[background] == IGNORED:
            yield f"{self._model.alias} has no class for the background, so that its pixels do not count"
        if wrong := self._totals.wrong_sizes:
            yield f"{len(wrong):,} masks have another size than their image and take no part, such as {wrong[0]}"
        yield f"boundary F1: within {BOUNDARY_TOLERANCE:.2%} of the diagonal; mIoU: mean over the classes that occur"


def paint_segments(
    model: ModelSpec, label_ids: Sequence[int] | Ints, masks: Sequence[bytes], shape: tuple[int, int]
) -> npt.NDArray[np.int32]:
    """Paint the segments of a row.

    Args:
        model: Has the categories.
        label_ids: Class of each segment.
        masks: RLE of each segment.
        shape: Height and width in pixels.

    Returns:
        (height, width) label ids; where there is no segment, 0 if that is the background, else one more than the number
        of categories.
    """
    nothing = 0 if has_background(model) else len(model.categories) + 1
    labels = np.full(shape, nothing, np.int32, order="F")
    for label_id, mask in zip(label_ids, masks, strict=True):
        labels[decode_mask(mask, *shape)] = label_id
    return labels


def has_background(model: ModelSpec) -> bool:
    """Whether pixels without a segment are a class of their own."""
    return bool(model.categories) and model.categories[0] is None


def _known_boundaries(
    truth: npt.NDArray[np.int32], predicted: npt.NDArray[np.int32], classes: int
) -> tuple[Ints, Floats]:
    present, scores = boundary_f1(truth, predicted)
    known = present < classes
    return present[known], scores[known]


def _describe_sizes(truth: PixelTruth, image: int, got: tuple[int, ...], expected: tuple[int, ...]) -> str:
    hint = ", turned as Exif says" if got == expected[::-1] else ""
    return f"{truth.image_names[image]}: {got[1]} × {got[0]}, expected {expected[1]} × {expected[0]}{hint}"


SEGMENTATION_EVALUATOR: Final = Evaluator((PAINTED_READER, MASK_READER), SegmentScorer)
