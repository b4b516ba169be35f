"""Interface of an edit: what it is given of an image, and what it gives back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

from cvbatch.images.preprocess import Size
from cvbatch.tasks.masks import Mask


@dataclass(frozen=True, slots=True)
class FoundObject:
    """One object that the model has seen in an image."""

    label: str
    score: float | None
    """None for segments, which have none."""
    box: tuple[float, float, float, float]
    """x_min, y_min, x_max, y_max in pixels of the oriented original."""
    mask: Mask | None = None
    """At the size of the oriented original."""


@dataclass(frozen=True, slots=True)
class EncodedFile:
    """A file that an edit makes of an image."""

    path: str
    """Relative, with `/` between parts."""
    data: bytes


@dataclass(frozen=True, slots=True)
class EditedImage:
    """What an edit gives back."""

    files: Sequence[EncodedFile]
    actions: Sequence[str] = ()
    """For each object, what was done to it."""
    note: str | None = None
    """What a person should know of this file, such as that its format has changed."""


@dataclass(frozen=True, slots=True)
class OriginalImage:
    """What an edit is given."""

    path: str
    """Relative path of the original below the root of the source."""
    data: bytes
    size: Size
    """(width, height) of the oriented original, as the run has seen it."""
    max_pixels: int
    objects: Sequence[FoundObject] = field(default=())
    jpeg_path: str = ""
    """Relative path of the edited image if its own format is not written; empty for that of the original and `.jpg`."""

    @property
    def path_as_jpeg(self) -> str:
        """Relative path of the edited image if it is written as JPEG."""
        return self.jpeg_path or f"{self.path}.jpg"


class Edit(Protocol):
    """One kind of edit, with its options; picklable.

    To add one: a file with a class, a function in `functions`, and a command of `cli/edits/`.
    """

    name: ClassVar[str]
    """Name of the command."""

    def paths_of(self, image: OriginalImage) -> Sequence[str]:
        """All relative paths that files of an image may have; its data may be missing."""
        ...

    def edit_image(self, image: OriginalImage) -> EditedImage:
        """Edit one image.

        The same input must give the same bytes: an image may be edited twice after a crash.

        Raises:
            ImageError: The image cannot be edited; it becomes an error row, and nothing of it is written.
        """
        ...
