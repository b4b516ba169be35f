"""Texts of many elements as Arrow arrays: joined by image, and written without a Python object for each element."""

from __future__ import annotations

from collections.abc import Callable
from typing import IO, Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

_CONTROL: Final = r"[\x00-\x08\x0b\x0c\x0e-\x1f]"
"""Characters that XML 1.0 does not have."""


def numbers_to_text(numbers: npt.NDArray[Any] | pa.Array) -> pa.Array:
    """Numbers; floats as the shortest text that gives the same number back.

    Args:
        numbers: (n,) finite.
    """
    return pc.cast(numbers if isinstance(numbers, pa.Array) else pa.array(numbers), pa.string())


def rounded_to_text(numbers: npt.NDArray[np.floating[Any]], decimals: int) -> pa.Array:
    """Floats with at most this many decimals, without zeros at their end."""
    return numbers_to_text(np.round(numbers.astype(np.float64), decimals) + 0.0)


def escape_texts(texts: pa.Array, special: str, escape: Callable[[str], str]) -> pa.Array:
    """Escape those texts that need it, one by one.

    Args:
        texts: (n,) string.
        special: Regular expression of what a text must contain to need it.
        escape: Gives the escaped text.
    """
    needs_escape = pc.match_substring_regex(texts, special)
    if not pc.any(needs_escape).as_py():
        return texts
    escaped = pa.array([escape(text) for text in texts.filter(needs_escape).to_pylist()], pa.string())
    return pc.replace_with_mask(texts, needs_escape, escaped)


def texts_to_xml(texts: pa.Array) -> pa.Array:
    """Texts as they may stand in XML, also in attributes; characters that XML does not have become `?`."""
    texts = pc.replace_substring_regex(texts, _CONTROL, "?")
    for character, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&quot;"), ("\n", "&#10;")):
        texts = pc.replace_substring(texts, character, entity)
    return texts


def join_texts(*parts: pa.Array | pa.ChunkedArray | str) -> pa.Array:
    """Join texts row by row; a plain text is the same in all rows."""
    arrays = (part.combine_chunks() if isinstance(part, pa.ChunkedArray) else part for part in parts)
    return pc.binary_join_element_wise(*arrays, "")


def concatenate_by_image(texts: pa.Array, offsets: npt.NDArray[np.integer[Any]], separator: str = "") -> pa.Array:
    """Join the texts of the elements of each image.

    Args:
        texts: (elements,) string.
        offsets: (images + 1,): image `i` has those from `offsets[i]` up to `offsets[i + 1]`.
        separator: Between two of them.

    Returns:
        (images,) string, empty without elements.
    """
    return pc.binary_join(pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), texts), separator)


def write_texts(file: IO[bytes], texts: pa.Array, separator: str = "", *, first: bool = True) -> None:
    """Write texts one after the other.

    Args:
        file: Opened for writing.
        texts: (n,)
        separator: Between two texts.
        first: Whether nothing precedes them; else they begin with a separator.
    """
    if not len(texts):
        return
    parts = join_texts(separator, texts) if separator else texts
    _, offsets, values = parts.buffers()
    bounds = np.frombuffer(offsets, np.int32)[parts.offset : parts.offset + len(parts) + 1]
    skipped = len(separator.encode()) if first else 0
    if values is not None:
        file.write(memoryview(values)[int(bounds[0]) + skipped : int(bounds[-1])])
