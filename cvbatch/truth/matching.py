"""Which image of the truth each listed image is: by location, by path, by file name, or by content."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cvbatch.errors import UsageError
from cvbatch.schema import CONTENT_SHA256, IMAGE_URI
from cvbatch.truth.base import Ints, Truth
from cvbatch.truth.image_names import are_hashes, count_parts, last_parts, normalize_paths


def match_images(truth: Truth, candidates: pa.Table) -> tuple[Ints, str]:
    """Find the image of the truth that each candidate is.

    Names that are sha256 sums are compared with the content. Others are paths: as many of their last parts are compared
    as are needed for any to agree.

    Args:
        truth: Has the names.
        candidates: Images, with their locations and the sha256 of their content.

    Returns:
        (candidates,): position in the truth or -1; and what was compared.

    Raises:
        UsageError: If a name fits several different images.
    """
    if are_hashes(truth.image_names):
        keys = pa.array([name.lower() for name in truth.image_names])
        return _match(keys, candidates[CONTENT_SHA256]), CONTENT_SHA256
    return _match_paths(truth, candidates)


def truth_paths(names: pa.Array, truth: Truth) -> pa.Array:
    """Names of images in the spelling in which those of a truth are compared."""
    return normalize_paths(names, keep_suffix=truth.has_suffixes)


def _match_paths(truth: Truth, candidates: pa.Table) -> tuple[Ints, str]:
    """For each row the image of the truth that it is about or -1, by as many last parts as agree for any."""
    names, paths = (
        truth_paths(pa.array(truth.image_names, pa.string()), truth),
        truth_paths(candidates[IMAGE_URI], truth),
    )
    lengths = count_parts(names)
    deepest = int(lengths.max())
    for parts in range(deepest, 0, -1):
        keys = last_parts(names, parts)
        matches = _match_last_parts(keys, np.minimum(lengths, parts), paths)
        if parts == 1 or (matches >= 0).any():
            break
    _refuse_ambiguous_names(truth, keys, matches)
    _refuse_ambiguous_rows(truth, matches, candidates)
    if parts == 1:
        return matches, "file name" if truth.has_suffixes else "file name without its suffix"
    return matches, "path" if parts == deepest else f"last {parts} parts of the path"


def _match_last_parts(keys: pa.Array, lengths: Ints, paths: pa.ChunkedArray) -> Ints:
    """Compare each key with the last parts of paths, as many as it has; a path belongs to the longest key that fits."""
    matches = np.full(len(paths), -1, np.int64)
    for length in sorted(set(lengths.tolist()), reverse=True):
        chosen = np.flatnonzero(lengths == length)
        positions = _match(keys.take(pa.array(chosen)), last_parts(paths, length))
        matches = np.where((matches < 0) & (positions >= 0), chosen[positions], matches)
    return matches


def _match(keys: pa.Array, values: pa.ChunkedArray) -> Ints:
    """Position of each value among the keys, or -1."""
    positions = pc.index_in(values, keys)
    return np.asarray(pc.fill_null(positions, -1).to_numpy()).astype(np.int64)


def _refuse_ambiguous_names(truth: Truth, keys: pa.Array, matches: Ints) -> None:
    """Refuse two images of the truth whose names differ only where the run's locations say something else."""
    encoded = keys.dictionary_encode()
    codes = encoded.indices.to_numpy()
    shared = np.bincount(codes)[codes] > 1
    wrong = matches[(matches >= 0) & shared[matches]]
    if len(wrong):
        first, second = np.flatnonzero(codes == codes[wrong[0]])[:2]
        raise UsageError(
            f"{truth.source}: expected names that tell images apart, got {truth.image_names[first]} and "
            f"{truth.image_names[second]}, of which only {keys[int(first)]} agrees with the run; use its locations"
        )


def _refuse_ambiguous_rows(truth: Truth, matches: Ints, candidates: pa.Table) -> None:
    """Refuse a name that fits rows with different locations."""
    rows = np.flatnonzero(matches >= 0)
    order = rows[np.argsort(matches[rows], kind="stable")]
    uris = candidates[IMAGE_URI].take(order).to_numpy()
    wrong = np.flatnonzero((matches[order][1:] == matches[order][:-1]) & (uris[1:] != uris[:-1]))
    if len(wrong):
        raise UsageError(
            f"{truth.source}: expected names that fit one image, got {truth.image_names[matches[order][wrong[0]]]}, "
            f"which fits {uris[wrong[0]]} and {uris[wrong[0] + 1]}; write more of the path into the truth"
        )
