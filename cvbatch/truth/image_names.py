"""Names of images that can be compared: paths by their last parts, whatever stands before them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cvbatch.truth.base import Ints

_SHA256: Final = re.compile(r"[0-9a-f]{64}", re.I)
_SEPARATORS: Final = r"[\\#]"
"""Besides slashes: Windows writes the first, and the second stands before a member of an archive or a row."""
_SUFFIX: Final = r"\.[^./]+$"


def are_hashes(names: Sequence[str]) -> bool:
    """Whether all names are sha256 sums."""
    return all(_SHA256.fullmatch(name) for name in names)


def normalize_paths(paths: pa.Array, *, keep_suffix: bool) -> pa.Array:
    """Write all separators as slashes, and drop suffixes such as `.jpg` if they are not to be compared.

    Args:
        paths: Strings: locations, paths or file names.
        keep_suffix: Whether suffixes stay.
    """
    paths = pc.replace_substring_regex(paths, _SEPARATORS, "/")
    return paths if keep_suffix else pc.replace_substring_regex(paths, _SUFFIX, "")


def last_parts(paths: pa.Array, count: int) -> pa.Array:
    """The last parts of paths, `b/c` of `/a/b/c` for a count of 2; shorter paths stay whole.

    Args:
        paths: As `normalize_paths` returns them.
        count: Most parts.
    """
    pattern = rf"^(?:.*/)?((?:[^/]+/){{0,{count - 1}}}[^/]+)$"
    if count == 1:
        return pc.replace_substring_regex(paths, "^.*/", "")
    # RE2 prefers the longest first part, so the match is looked for without one
    matches = pc.extract_regex(paths, pattern.replace("^(?:.*/)?(", "(?P<tail>"))
    return pc.coalesce(pc.struct_field(matches, 0), paths)


def count_parts(paths: pa.Array) -> Ints:
    """(n,): number of parts of each path that `last_parts` can compare, up to an empty one as in `s3://`."""
    tails = pc.replace_substring_regex(paths, "^.*//", "")
    counts: Ints = pc.count_substring(pc.utf8_ltrim(tails, "/"), "/").to_numpy().astype(np.int64)
    return counts + 1
