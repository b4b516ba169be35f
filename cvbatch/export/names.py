"""Names of the images in an export: their path below the root of the source, unique where each gets a file."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cvbatch.planning.plan import uris_as_list
from cvbatch.results.committed import OpenedOutput
from cvbatch.results.streaming import RowSelection, iter_rows
from cvbatch.schema import IMAGE_URI

_BATCH_ROWS: Final = 65_536
_EXTENSION: Final = r"\.[^./#]*$"
_UNSAFE_PART: Final = r"(^|/)(\.{0,2})(/|$)"
"""A part of a path that is empty, or leads elsewhere."""
_LONGEST_PART: Final = 200
"""Bytes; file systems take 255 with what is added to the name."""
_NUMBER: Final = r"-\d+(\.[^./#]*)?$"
"""What a name ends with that got its row id, or looks like one."""


@dataclass(frozen=True, slots=True)
class ImageNames:
    """Turns the location of an image into its name."""

    root: str
    """What all locations begin with, up to a slash or `#`."""
    repeated: npt.NDArray[np.uint64] | None = None
    """Hashes of the stems that several images have; None if names need not differ in their stem."""

    def of_images(self, uris: pa.Array, row_ids: npt.NDArray[np.int64]) -> pa.Array:
        """Names of some images.

        Args:
            uris: (n,) `image_uri`.
            row_ids: (n,)

        Returns:
            (n,) string. If names must differ in their stem, those that do not get `-` and their row id, and parts
            that are no names of files are replaced.
        """
        names = pc.utf8_slice_codeunits(uris, len(self.root))
        if self.repeated is None:
            return names
        names = _safe_paths(names)
        paths = _safe_paths(uris)
        is_repeated = np.isin(_stem_hashes(paths), self.repeated)
        # `x-7.jpg` would meet an `x.jpg` that gets its row id
        numbered = pc.match_substring_regex(paths, _NUMBER).to_numpy(zero_copy_only=False)
        is_repeated |= numbered & np.isin(_stem_hashes(pc.replace_substring_regex(paths, _NUMBER, "")), self.repeated)
        is_long = pc.greater(pc.binary_length(pc.replace_substring_regex(names, ".*/", "")), _LONGEST_PART).to_numpy(
            zero_copy_only=False
        )
        for position in np.flatnonzero(is_repeated | is_long).tolist():
            stem, extension = split_name(names[position].as_py())
            folder, _, stem = stem.rpartition("/")
            stem = stem.encode()[:_LONGEST_PART].decode(errors="ignore")
            new = f"{folder}/{stem}-{row_ids[position]}{extension}".lstrip("/")
            names = pc.replace_with_mask(names, np.arange(len(names)) == position, pa.scalar(new))
        return names


NO_NAMES: Final = ImageNames("")
"""Whole locations, for who does not need names."""


def split_name(name: str) -> tuple[str, str]:
    """Split a name into its stem, with the folders, and its extension with the dot.

    A dot of a folder, or of a container (`a.parquet#17`), begins none.
    """
    extension = re.search(_EXTENSION, name)
    return (name, "") if extension is None else (name[: extension.start()], extension.group())


def find_names(opened: OpenedOutput, *, unique_stems: bool) -> ImageNames:
    """Look through the locations of all committed images, whatever is exported of them.

    Args:
        opened: The run.
        unique_stems: Whether names must differ in more than their extension and in upper and lower case, since each
            image gets a file of its own.
    """
    lowest: str | None = None
    highest: str | None = None
    hashes = []
    for table in iter_rows(opened, RowSelection(columns=[IMAGE_URI]), batch_rows=_BATCH_ROWS):
        ends = pc.min_max(table[IMAGE_URI]).as_py()
        lowest = ends["min"] if lowest is None else min(lowest, ends["min"], key=str.encode)
        highest = ends["max"] if highest is None else max(highest, ends["max"], key=str.encode)
        if unique_stems:
            hashes.append(_stem_hashes(_safe_paths(table[IMAGE_URI].combine_chunks())))
    sources = uris_as_list(opened.plan.job["source"]["uri"])
    return ImageNames(_common_root(sources, lowest or "", highest or ""), _repeated(hashes) if unique_stems else None)


def _common_root(sources: Sequence[str], lowest: str, highest: str) -> str:
    """What all locations begin with: the source, if it is one place that holds them all, else what they share.

    All texts between two that begin with the same characters begin with these, too.
    """
    for end in ("/", "#"):
        root = sources[0].rstrip("/") + end
        if len(sources) == 1 and lowest.startswith(root) and highest.startswith(root):
            return root
    pairs = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(lowest, highest, strict=False))
    shared = "".join(first for first, _ in pairs)
    return shared[: max(shared.rfind("/"), shared.rfind("#")) + 1]


def _safe_paths(names: pa.Array) -> pa.Array:
    """Replace parts of paths that are empty, `.` or `..` by `_`, so that no file lies outside its folder."""
    wrong = pc.match_substring_regex(names, _UNSAFE_PART)
    if not pc.any(wrong).as_py():
        return names
    paths = [name.split("/") for name in names.to_pylist()]
    return pa.array(["/".join("_" if part in ("", ".", "..") else part for part in path) for path in paths])


def _stem_hashes(names: pa.Array) -> npt.NDArray[np.uint64]:
    import pandas as pd

    stems = pc.utf8_lower(pc.replace_substring_regex(names, _EXTENSION, ""))
    hashes: npt.NDArray[np.uint64] = pd.util.hash_array(stems.to_numpy(zero_copy_only=False), categorize=False)
    return hashes


def _repeated(hashes: Iterable[npt.NDArray[np.uint64]]) -> npt.NDArray[np.uint64]:
    sorted_hashes = np.sort(np.concatenate([np.zeros(0, np.uint64), *hashes]))
    return np.unique(sorted_hashes[1:][sorted_hashes[1:] == sorted_hashes[:-1]])
