"""Check the answers of models: finite, in range, of the right type and shape."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from cvbatch.errors import ImageError, RowError
from cvbatch.tasks.base import ModelFacts

INVALID: Final = "InvalidOutput"
"""The `error_type` of rows with an invalid answer."""
ROUNDING: Final = 1e-3
"""Tolerance of probabilities outside 0 to 1: softmax rounds at lower precision."""
_SHOWN: Final = 60
_NOT_TINY: Final = 16
"""Shorter side, in pixels, from which boxes that are all within the first pixel are taken for fractions."""

Array = npt.NDArray[Any]


def invalid_output_error(model: ModelFacts, message: str) -> ImageError:
    """The error of an image with an invalid answer."""
    return ImageError(INVALID, f"{model.alias or model.name}: {message}")


def to_number_array(model: ModelFacts, name: str, value: Any, kinds: str) -> Array:
    """Convert a model's return value to an array on the host.

    Args:
        model: The model that answered.
        name: Name of the value in messages.
        value: An array, a tensor or nested lists.
        kinds: Accepted kinds of numbers, as codes of NumPy's `dtype.kind`.

    Raises:
        ImageError: It is not an array of these kinds of numbers.
    """
    value = [_to_host_array(item) for item in value] if isinstance(value, list | tuple) else _to_host_array(value)
    try:
        array = np.asarray(value)
    except (ValueError, TypeError) as error:
        raise invalid_output_error(
            model, f"expected {name} as an array of numbers, got {shorten_repr(value)} ({error})"
        ) from None
    if array.dtype.kind not in kinds and array.size:
        raise invalid_output_error(
            model, f"expected {name} of {_NAMES[kinds]}, got {array.dtype}: {shorten_repr(array.flat[0])}"
        )
    return array


def _to_host_array(value: Any) -> Any:
    """Copy a tensor to the host, in a type that NumPy knows; return anything else unchanged."""
    if not hasattr(value, "detach"):
        return value
    value = value.detach().cpu()
    return value.float() if str(value.dtype) == "torch.bfloat16" else value


REAL, WHOLE, TRUTH = "fiub", "iu", "b"
"""Kinds of numbers: any, whole numbers, booleans."""
_NAMES: Final = {
    REAL: "numbers",
    WHOLE: "whole numbers",
    WHOLE + TRUTH: "whole numbers",
    TRUTH: "booleans (compare a soft mask with a threshold)",
}


def expect_shape(model: ModelFacts, name: str, array: Array | None, shape: tuple[int | None, ...]) -> None:
    """Check a shape; None stands for any length.

    Raises:
        ImageError: The shape differs.
    """
    got = () if array is None else array.shape
    if len(got) != len(shape) or any(length not in (None, actual) for length, actual in zip(shape, got, strict=True)):
        expected = ", ".join("n" if length is None else str(length) for length in shape)
        raise invalid_output_error(model, f"expected {name} of shape ({expected}), got {got if got else 'none'}")


def expect_label_ids(model: ModelFacts, ids: Array) -> None:
    """Check that each label id is a position in the categories.

    Raises:
        ImageError: A label id is out of range.
    """
    if ids.size and not 0 <= (low := ids.min()) <= (high := ids.max()) < len(model.categories):
        wrong = low if low < 0 else high
        raise invalid_output_error(model, f"expected label ids below {len(model.categories)}, got {wrong}")


def expect_boxes(model: ModelFacts, boxes: Array, size: Sequence[int]) -> None:
    """Check that boxes are finite, have ordered corners and an area, and are not far outside the image.

    Args:
        model: The model that answered.
        boxes: (n, 4): x_min, y_min, x_max, y_max.
        size: (width, height) of the image that the boxes refer to.

    Raises:
        ImageError: A box is invalid.
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
        ImageError: A score is not finite, or not between 0 and 1.
    """
    with np.errstate(invalid="ignore"):
        within = (scores >= -ROUNDING) & (scores <= 1 + ROUNDING)
    if (wrong := first_wrong_index(~within)) is not None:
        raise invalid_output_error(model, f"expected scores from 0 to 1, got {scores[wrong]:g}")


def expect_finite(model: ModelFacts, name: str, values: Array) -> None:
    """Check that all numbers are finite.

    Raises:
        ImageError: A number is not finite.
    """
    finite = np.isfinite(values)
    if not finite.all():
        raise invalid_output_error(model, f"expected finite {name}, got {values[~finite][0]}")


def first_wrong_index(wrong: Any) -> int | None:
    """The first true position in an array of booleans, or None."""
    return int(wrong.argmax()) if wrong.any() else None


def shorten_repr(value: Any) -> str:
    """Format a value as text that is short enough for a message."""
    text = " ".join(repr(value).split())
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def replace_impossible(
    answers: Sequence[Any], low: float, high: float, explain: Callable[[Array], str]
) -> Sequence[Any]:
    """Replace each vector with a number that is not finite or out of range by a `RowError`.

    Args:
        answers: Vectors of one length, one for each image.
        low: The smallest valid number.
        high: The largest valid number.
        explain: Returns the error message for an invalid vector.
    """
    rows = np.stack(answers)
    with np.errstate(invalid="ignore"):  # minimum and maximum of a row with a NaN are NaN
        valid = (rows.min(axis=1) >= low) & (rows.max(axis=1) <= high)
    if valid.all():
        return answers
    return [
        answer if is_valid else RowError("predict", INVALID, explain(answer))
        for answer, is_valid in zip(answers, valid, strict=True)
    ]


def to_number_rows(model: ModelFacts, name: str, raw: Any, shape: tuple[int | None, ...]) -> npt.NDArray[np.float32]:
    """Convert a model's return value for all images of a call to float32 of this shape.

    Args:
        model: The model that answered.
        name: Name of the values in messages.
        raw: An array, a tensor or nested lists.
        shape: (images, length).

    Raises:
        ImageError: It is not an array of numbers, or has another shape.
    """
    rows = to_number_array(model, name, raw, REAL)
    expect_shape(model, name, rows, shape)
    with np.errstate(over="ignore"):  # numbers that are too large become infinite, and are refused later
        return rows.astype(np.float32)
