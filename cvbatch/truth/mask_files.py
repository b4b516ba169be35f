"""Truth as images whose pixel values are classes: PNG masks with a palette or in shades of grey."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from cvbatch.errors import UsageError
from cvbatch.storage.location import Location
from cvbatch.truth.base import IGNORED, Truth, TruthOptions, TruthReader
from cvbatch.truth.folders import iter_files, read_file

MASK_LAYOUT: Final = "PNG masks"
CLASS_LIST: Final = "classes.txt"
"""File in the folder of masks with the name of each value, one a line, from 0 on."""
_VALUES: Final = 256
_MODES: Final = ("L", "P", "1", "I;16", "I")
_ENDINGS: Final = re.compile(r"[_-](?:mask|masks|label|labels|seg|segmentation)$", re.I)


@dataclass(frozen=True, kw_only=True)
class PixelTruth(Truth):
    """A label map for each image; the maps are read one by one."""

    background: int | None = None
    """Position in `categories` of what is no object; if the model has no such class, it does not count."""

    def read_map(self, image: int, height: int, width: int) -> npt.NDArray[np.integer[Any]]:
        """Read the label map of an image.

        Args:
            image: Its position in `image_names`.
            height: Height of the oriented image in pixels, for truth that has none of its own.
            width: Its width.

        Returns:
            Positions in `categories`, their number for what is none, or `IGNORED`: (height, width) of the truth,
            which may be of another size.

        Raises:
            UsageError: If it cannot be read.
        """
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class MaskTruth(PixelTruth):
    """Files with masks."""

    folder: Location
    files: Sequence[str]
    """(images,): path of each mask below the folder."""
    ignored_value: int | None
    """Value of pixels that do not count."""

    def read_map(self, image: int, height: int, width: int) -> npt.NDArray[np.integer[Any]]:
        """See `PixelTruth.read_map`."""
        name = f"{self.source}/{self.files[image]}"
        try:
            with Image.open(io.BytesIO(read_file(self.folder, self.files[image]))) as mask:
                if mask.mode not in _MODES:
                    raise UsageError(
                        f"{name}: expected a mask with a palette or in shades of grey, got one of mode {mask.mode}"
                    )
                values = np.asarray(mask).astype(np.int32)
        except OSError as error:
            raise UsageError(f"{name}: expected a PNG mask; {error}") from None
        size = len(self.categories)
        labels = np.where((values >= 0) & (values < size), values, size)
        return labels if self.ignored_value is None else np.where(values == self.ignored_value, IGNORED, labels)


def read_mask_folder(location: Location, options: TruthOptions) -> MaskTruth:
    """Read a tree of masks that lie as the images do: `0001.png` for `0001.jpg`.

    Args:
        location: Folder on a disk or in a bucket.
        options: The value that does not count.

    Raises:
        UsageError: If there are no masks.
    """
    paths = list(iter_files(location))
    files = [path for path in paths if path.lower().endswith(".png")]
    if not files:
        raise UsageError(f"{location}: expected a folder of PNG masks, such as 0001.png for 0001.jpg; got none")
    names = [os.path.splitext(path)[0] for path in files]
    if all(_ENDINGS.search(name) for name in names):
        names = [_ENDINGS.sub("", name) for name in names]
    root = location.uri.rstrip("/")
    classes = _read_class_list(location) if CLASS_LIST in paths else None
    ignored = options.ignored_value
    notes = [
        "pixel values are label ids of the model" if classes is None else f"pixel values are lines of {CLASS_LIST}",
        "all pixels count" if ignored is None else f"pixels of value {ignored} do not count",
    ]
    return MaskTruth(
        source=str(location),
        layout=MASK_LAYOUT,
        image_names=[f"{root}/{name}" for name in names],
        has_suffixes=False,
        categories=tuple(map(str, range(_VALUES))) if classes is None else classes,
        notes=tuple(notes),
        folder=location,
        files=files,
        ignored_value=ignored,
    )


def _read_class_list(location: Location) -> tuple[str, ...]:
    text = read_file(location, CLASS_LIST).decode("utf-8-sig", "replace")
    names = [line.strip() for line in text.splitlines()]
    while names and not names[-1]:
        names.pop()
    if not names:
        raise UsageError(f"{location}/{CLASS_LIST}: expected the name of each pixel value, one a line; got none")
    return tuple(name or f"value {value}" for value, name in enumerate(names))


MASK_READER: Final = TruthReader(
    MASK_LAYOUT,
    "masks/ with masks/0001.png",
    lambda location: not location.uri.lower().endswith(".json"),
    read_mask_folder,
    takes_options=True,
)
