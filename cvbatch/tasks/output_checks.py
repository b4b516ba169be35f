"""Whether what a model says can be an answer: finite, in range, of the right type and shape."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from cvbatch.errors import ImageError, RowError
from cvbatch.tasks.base import ModelFacts

INVALID: Final = "InvalidOutput"
"""The `error_type` of rows whose model gave no possible answer."""
ROUNDING: Final = 1e-3
"""How far from 0 and 1 a probability may be: softmax at lower precision rounds."""
_SHOWN: Final = 60
_NOT_TINY: Final = 16
"""Pixels of a side from which boxes that all lie in the first pixel are none, but fractions."""

Array = npt.NDArray[Any]


def invalid_output_error(model: ModelFacts, what: str) -> ImageError:
    """The error of an image for which a model has no possible answer."""
    return ImageError(INVALID, f"{model.alias or model.name}: {what}")


def to_number_array(model: ModelFacts, what: str, value: Any, kinds: str) -> Array:
    """What a model returned, as an array on the host.

    Args:
        model: Whose answer it is.
        what: What to call it.
        value: An array, a tensor or nested lists.
        kinds: Codes of the kinds of numbers that it may hold, as NumPy's `dtype.kind`.

    Raises:
        ImageError: It is none, or holds something else.
    """
    value = [_to_host_array(each) for each in value] if isinstance(value, list | tuple) else _to_host_array(value)
    try:
        array = np.asarray(value)
    except (ValueError, TypeError) as error:
        raise invalid_output_error(
            model, f"expected {what} as an array of numbers, got {shorten_repr(value)} ({error})"
        ) from None
    if array.dtype.kind not in kinds and array.size:
        raise invalid_output_error(
            model, f"expected {what} of {_NAMES[kinds]}, got {array.dtype}: {shorten_repr(array.flat[0])}"
        )
    return array


def _to_host_array(value: Any) -> Any:
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


def expect_shape(model: ModelFacts, what: str, array: Array | None, shape: tuple[int | None, ...]) -> None:
    """Check a shape, in which None stands for any length.

    Raises:
        ImageError: It is another one.
    """
    got = () if array is None else array.shape
    if len(got) != len(shape) or any(want not in (None, have) for want, have in zip(shape, got, strict=True)):
        wanted = ", ".join("n" if length is None else str(length) for length in shape)
        raise invalid_output_error(model, f"expected {what} of shape ({wanted}), got {got if got else 'none'}")


def expect_label_ids(model: ModelFacts, ids: Array) -> None:
    """Check that label ids have a place in the categories.

    Raises:
        ImageError: One has none.
    """
    if ids.size and not 0 <= (low := ids.min()) <= (high := ids.max()) < len(model.categories):
        wrong = low if low < 0 else high
        raise invalid_output_error(model, f"expected label ids below {len(model.categories)}, got {wrong}")


def expect_boxes(model: ModelFacts, boxes: Array, size: Sequence[int]) -> None:
    """Check that boxes are finite, in order, with an area, and not far from the image.

    Args:
        model: Whose boxes they are.
        boxes: (n, 4): x_min, y_min, x_max, y_max.
        size: (width, height) of the picture that they are in.

    Raises:
        ImageError: One is not.
    """
    if not len(boxes):
        return
    low, high = boxes[:, :2], boxes[:, 2:]
    if (wrong := first_wrong_index(~np.isfinite(boxes).all(axis=1))) is not None:
        raise invalid_output_error(model, f"expected finite boxes, got {shorten_repr(boxes[wrong].tolist())}")
    if (wrong := first_wrong_index((low >= high).any(axis=1))) is not None:
        raise invalid_output_error(
            model, f"expected boxes as x_min < x_max, y_min < y_max, got {shorten_repr(boxes[wrong].tolist())}"
        )
    if min(size) >= _NOT_TINY and (boxes <= 1).all():
        raise invalid_output_error(
            model, f"expected boxes in pixels, got {shorten_repr(boxes[0].tolist())}: fractions of the image's size"
        )
    if (
        wrong := first_wrong_index(((low < np.negative(size)) | (high > 2 * np.asarray(size))).any(axis=1))
    ) is not None:
        inside = f"an image of {size[0]} × {size[1]}"
        raise invalid_output_error(
            model, f"expected boxes of {inside}, got {shorten_repr(boxes[wrong].tolist())}: far outside"
        )


def expect_probabilities(model: ModelFacts, scores: Array) -> None:
    """Check the scores of detections.

    Raises:
        ImageError: One is not finite, or not between 0 and 1.
    """
    with np.errstate(invalid="ignore"):
        within = (scores >= -ROUNDING) & (scores <= 1 + ROUNDING)
    if (wrong := first_wrong_index(~within)) is not None:
        raise invalid_output_error(model, f"expected scores from 0 to 1, got {scores[wrong]:g}")


def expect_finite(model: ModelFacts, what: str, values: Array) -> None:
    """Check that all numbers are finite.

    Raises:
        ImageError: One is not.
    """
    finite = np.isfinite(values)
    if not finite.all():
        raise invalid_output_error(model, f"expected finite {what}, got {values[~finite][0]}")


def first_wrong_index(wrong: Any) -> int | None:
    """The position of the first one that is wrong, of an array of booleans."""
    return int(wrong.argmax()) if wrong.any() else None


def shorten_repr(value: Any) -> str:
    """A value as text that fits a message."""
    text = " ".join(repr(value).split())
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def replace_impossible(
    answers: Sequence[Any], low: float, high: float, explain: Callable[[Array], str]
) -> Sequence[Any]:
    """Put an error in the place of each vector with a number that is not finite, or out of range.

    Args:
        answers: Vectors of one length, one for each image.
        low: The smallest number that may be.
        high: The largest one.
        explain: Says of a vector what is wrong with it.
    """
    rows = np.stack(answers)
    with np.errstate(invalid="ignore"):  # a NaN spreads through the extremes of its row
        possible = (rows.min(axis=1) >= low) & (rows.max(axis=1) <= high)
    if possible.all():
        return answers
    return [
        answer if good else RowError("predict", INVALID, explain(answer))
        for answer, good in zip(answers, possible, strict=True)
    ]


def to_number_rows(model: ModelFacts, what: str, raw: Any, shape: tuple[int | None, ...]) -> npt.NDArray[np.float32]:
    """What a model returned for all images of a call, as float32 of this shape.

    Args:
        model: Whose answers they are.
        what: What to call them.
        raw: An array, a tensor or nested lists.
        shape: (images, length).

    Raises:
        ImageError: It holds something else, or has another shape.
    """
    rows = to_number_array(model, what, raw, REAL)
    expect_shape(model, what, rows, shape)
    with np.errstate(over="ignore"):  # what is too large is infinite then, and refused
        return rows.astype(np.float32)
