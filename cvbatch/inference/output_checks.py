"""Whether what a model says can be an answer: finite, in range, of the right type and shape."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from cvbatch.errors import ImageError, RowError, attempt
from cvbatch.models.spec import ModelSpec
from cvbatch.tasks.detection import Boxes

INVALID: Final = "InvalidOutput"
"""The `error_type` of rows whose model gave no possible answer."""
_ROUNDING: Final = 1e-3
"""How far from 0 and 1 a probability may be: softmax at lower precision rounds."""
_MAX_FLOAT16: Final = 65504.0
_SHOWN: Final = 60
_NOT_TINY: Final = 16
"""Pixels of a side from which boxes that all lie in the first pixel are none, but fractions."""

Array = npt.NDArray[Any]


def invalid(spec: ModelSpec, what: str) -> ImageError:
    """The error of an image for which a model has no possible answer."""
    return ImageError(INVALID, f"{spec.alias or spec.name}: {what}")


def checked(spec: ModelSpec, answers: Sequence[Any]) -> Sequence[Any]:
    """Put an error in the place of each answer that cannot be one.

    Args:
        spec: Whose answers they are.
        answers: As in `network.Answers`, one for each image; errors stay.
    """
    if spec.task == "segmentation":  # made of label maps, whose ids are positions
        return answers
    if spec.task == "detection":
        return [attempt("predict", partial(_box_checked, spec, each)) for each in answers]
    if any(isinstance(answer, RowError) for answer in answers):
        return answers  # a `python:` model's, which are checked one by one
    wrong = _impossible(spec, np.stack(answers))
    if not wrong.any():
        return answers
    return [_why(spec, row) if bad else row for row, bad in zip(answers, wrong, strict=True)]


def number_array(spec: ModelSpec, what: str, value: Any, kinds: str) -> Array:
    """What a model returned, as an array on the host.

    Args:
        spec: Whose answer it is.
        what: What to call it.
        value: An array, a tensor or nested lists.
        kinds: Codes of the kinds of numbers that it may hold, as NumPy's `dtype.kind`.

    Raises:
        ImageError: It is none, or holds something else.
    """
    value = [_on_host(each) for each in value] if isinstance(value, list | tuple) else _on_host(value)
    try:
        array = np.asarray(value)
    except (ValueError, TypeError) as error:
        raise invalid(spec, f"expected {what} as an array of numbers, got {short(value)} ({error})") from None
    if array.dtype.kind not in kinds and array.size:
        raise invalid(spec, f"expected {what} of {_NAMES[kinds]}, got {array.dtype}: {short(array.flat[0])}")
    return array


def _on_host(value: Any) -> Any:
    """A tensor on whatever device as one that NumPy takes; anything else as it is."""
    if not hasattr(value, "detach"):
        return value
    value = value.detach().cpu()
    return value.float() if str(value.dtype) == "torch.bfloat16" else value


REAL, WHOLE, TRUTH = "fiub", "iu", "b"
"""What a number may be: any, a whole one, a boolean."""
_NAMES: Final = {
    REAL: "numbers",
    WHOLE: "whole numbers",
    WHOLE + TRUTH: "whole numbers",
    TRUTH: "booleans (compare a soft mask with a threshold)",
}


def expect_shape(spec: ModelSpec, what: str, array: Array | None, shape: tuple[int | None, ...]) -> None:
    """Check a shape, in which None stands for any length.

    Raises:
        ImageError: It is another one.
    """
    got = () if array is None else array.shape
    if len(got) != len(shape) or any(want not in (None, have) for want, have in zip(shape, got, strict=True)):
        wanted = ", ".join("n" if length is None else str(length) for length in shape)
        raise invalid(spec, f"expected {what} of shape ({wanted}), got {got if got else 'none'}")


def expect_label_ids(spec: ModelSpec, ids: Array) -> None:
    """Check that label ids have a place in the categories.

    Raises:
        ImageError: One has none.
    """
    if ids.size and not 0 <= (low := ids.min()) <= (high := ids.max()) < len(spec.categories):
        wrong = low if low < 0 else high
        raise invalid(spec, f"expected label ids below {len(spec.categories)}, got {wrong}")


def expect_boxes(spec: ModelSpec, boxes: Array, size: Sequence[int]) -> None:
    """Check that boxes are finite, in order, with an area, and not far from the image.

    Args:
        spec: Whose boxes they are.
        boxes: (n, 4): x_min, y_min, x_max, y_max.
        size: (width, height) of the picture that they are in.

    Raises:
        ImageError: One is not.
    """
    if not len(boxes):
        return
    low, high = boxes[:, :2], boxes[:, 2:]
    if (wrong := first(~np.isfinite(boxes).all(axis=1))) is not None:
        raise invalid(spec, f"expected finite boxes, got {short(boxes[wrong].tolist())}")
    if (wrong := first((low >= high).any(axis=1))) is not None:
        raise invalid(spec, f"expected boxes as x_min < x_max, y_min < y_max, got {short(boxes[wrong].tolist())}")
    if min(size) >= _NOT_TINY and (boxes <= 1).all():
        raise invalid(spec, f"expected boxes in pixels, got {short(boxes[0].tolist())}: fractions of the image's size")
    if (wrong := first(((low < np.negative(size)) | (high > 2 * np.asarray(size))).any(axis=1))) is not None:
        inside = f"an image of {size[0]} × {size[1]}"
        raise invalid(spec, f"expected boxes of {inside}, got {short(boxes[wrong].tolist())}: far outside")


def expect_probabilities(spec: ModelSpec, scores: Array) -> None:
    """Check the scores of detections.

    Raises:
        ImageError: One is not finite, or not between 0 and 1.
    """
    with np.errstate(invalid="ignore"):
        within = (scores >= -_ROUNDING) & (scores <= 1 + _ROUNDING)
    if (wrong := first(~within)) is not None:
        raise invalid(spec, f"expected scores from 0 to 1, got {scores[wrong]:g}")


def expect_finite(spec: ModelSpec, what: str, values: Array) -> None:
    """Check that all numbers are finite.

    Raises:
        ImageError: One is not.
    """
    finite = np.isfinite(values)
    if not finite.all():
        raise invalid(spec, f"expected finite {what}, got {values[~finite][0]}")


def first(wrong: Any) -> int | None:
    """The position of the first one that is wrong, of an array of booleans."""
    return int(wrong.argmax()) if wrong.any() else None


def short(value: Any) -> str:
    """A value as text that fits a message."""
    text = " ".join(repr(value).split())
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def _box_checked(spec: ModelSpec, found: Any) -> Any:
    if isinstance(found, Boxes):
        expect_finite(spec, "boxes", found.boxes)
        if (wrong := first((found.boxes[:, :2] >= found.boxes[:, 2:]).any(axis=1))) is not None:
            raise invalid(spec, f"expected boxes with an area, got {short(found.boxes[wrong].tolist())}")
        expect_probabilities(spec, found.scores)
        if found.keypoints is not None:
            expect_finite(spec, "keypoints", found.keypoints)
    return found


def _impossible(spec: ModelSpec, rows: Array) -> npt.NDArray[np.bool_]:
    """Which rows of scores or of vectors cannot be answers; a NaN spreads through the extremes of its row."""
    low, high = -_ROUNDING, 1 + _ROUNDING
    if spec.task == "embedding":
        high = _MAX_FLOAT16 if spec.dtype == "float16" and not spec.normalize else float(np.finfo(np.float32).max)
        low = -high
    with np.errstate(invalid="ignore"):
        possible: npt.NDArray[np.bool_] = (rows.min(axis=1) >= low) & (rows.max(axis=1) <= high)
    return ~possible


def _why(spec: ModelSpec, row: Array) -> RowError:
    finite = np.isfinite(row)
    at = int((~finite).argmax()) if not finite.all() else int(np.abs(row).argmax())
    if spec.task == "classification":
        at = at if not finite.all() or abs(row[at]) > 1 + _ROUNDING else int(row.argmin())
        hint = "" if not finite.all() else ": a model that returns logits says so with `logits = True`"
        what = f"expected scores from 0 to 1, got {row[at]:g} for label id {at}{hint}"
    else:
        what = f"expected finite numbers that fit {spec.dtype}, got {row[at]:g} at position {at} of the vector"
    return RowError("predict", INVALID, f"{spec.alias or spec.name}: {what}")
