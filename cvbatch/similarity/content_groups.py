"""Images with the same bytes, by the hash of their content."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Digests = npt.NDArray[np.uint64]
"""The first 128 bits of each sha256, (n, 2); two images of a billion have the same by chance once in 10^20 runs."""
_HEX_CHARACTERS: Final = 32


def digests_from(hashes: pa.ChunkedArray) -> Digests:
    """Convert hashes in hexadecimal, (n,) without nulls."""
    text = hashes.combine_chunks().cast(pa.string())
    joined = "".join(value[:_HEX_CHARACTERS] for value in text.to_pylist())
    return np.frombuffer(bytes.fromhex(joined), ">u8").reshape(-1, 2).astype(np.uint64)


def first_of_same_content(digests: Digests) -> npt.NDArray[np.int64]:
    """Position of the first image with the same content, for each image: (n,)."""
    order = np.lexsort((np.arange(len(digests)), digests[:, 1], digests[:, 0]))
    ordered = digests[order]
    begins = np.ones(len(digests), np.bool_)
    begins[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    firsts = np.empty(len(digests), np.int64)
    firsts[order] = order[begins][np.cumsum(begins) - 1]
    return firsts
