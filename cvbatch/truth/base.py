"""What all truth has: images with names, categories, and what a reader has to say about them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from cvbatch.errors import UsageError
from cvbatch.storage.location import Location

Ints = npt.NDArray[np.int64]
IGNORED: Final = -1
"""Pixel of a label map that does not count."""
IGNORED_VALUE: Final = 255
"""Value of mask pixels that do not count, as in Pascal VOC and Cityscapes."""
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Truth:
    """Annotated images; what is annotated is in the subclasses, one for each kind of labels."""

    source: str
    """Where it was read from, as messages name it."""
    layout: str
    """Name of the file format, such as `COCO JSON`."""
    image_names: Sequence[str]
    """Name of each image: a location, a path, a file name, or the sha256 of its bytes. Never twice the same."""
    has_suffixes: bool = True
    """Whether the names end like files (`0001.jpg`); in some formats they do not (`0001`)."""
    locations: Sequence[str] | None = None
    """Where each image was, for messages, if its name does not say it."""
    categories: tuple[str, ...]
    """Names; labels of the truth are positions in it."""
    sizes: npt.NDArray[np.int32] | None = None
    """(images, 2): width and height in pixels, 0 where they are not known; None if none are."""
    notes: tuple[str, ...] = field(default=())
    """Sentences for the user, such as how the categories are numbered."""

    def __post_init__(self) -> None:
        if not len(self.image_names):
            raise UsageError(f"{self.source}: expected {self.layout} with images, got none")
        if len(set(self.image_names)) < len(self.image_names):
            twice = Counter(self.image_names).most_common(1)[0][0]
            raise UsageError(f"{self.source}: expected each image once, got {twice!r} twice or more")

    def example(self, index: int) -> str:
        """What an image is called in messages."""
        return str((self.image_names if self.locations is None else self.locations)[index])


@dataclass(frozen=True, kw_only=True)
class TruthOptions:
    """What some formats leave open."""

    image_column: str | None = None
    """Column of a table that names the images; None for one with a usual name."""
    label_column: str | None = None
    """Column of a table with the classes; None for one with a usual name."""
    ignored_value: int | None = IGNORED_VALUE
    """Value of mask pixels that do not count; None if all count."""


@dataclass(frozen=True)
class TruthReader:
    """One file format of truth for one kind of labels."""

    layout: str
    """Name of the format in messages."""
    example: str
    """What a path of this format looks like."""
    accepts: Callable[[Location], bool]
    """Whether a location looks like this format; cheap, without reading everything."""
    read: Callable[..., Truth]
    """Reads a location, and takes `TruthOptions` if `takes_options`; raises `UsageError` in one line if it does not
    parse."""
    takes_options: bool = False


def read_truth(location: Location, readers: Sequence[TruthReader], options: TruthOptions | None = None) -> Truth:
    """Read truth with the first reader that accepts the location.

    Args:
        location: A file or a folder.
        readers: The formats of one kind of labels.
        options: For formats that leave something open.

    Raises:
        UsageError: If no reader accepts it, or it does not parse.
    """
    for reader in readers:
        if reader.accepts(location):
            return reader.read(location, options or TruthOptions()) if reader.takes_options else reader.read(location)
    expected = ", ".join(f"{reader.layout} ({reader.example})" for reader in readers)
    is_missing = location.is_local and not os.path.lexists(location.uri)
    came = "it does not exist" if is_missing else "it is none of them; truth of other tasks has other formats"
    raise UsageError(f"{location}: expected truth as one of {expected}, but {came}")


def count_names(names: Mapping[str, int], limit: int = 10) -> str:
    """Names with their counts in one line, most frequent first; the rest as a number."""
    ordered = sorted(names.items(), key=lambda item: (-item[1], item[0]))
    listed = ", ".join(f"{name} ({count:,})" for name, count in ordered[:limit])
    return listed + (f" and {len(ordered) - limit} more" if len(ordered) > limit else "")
