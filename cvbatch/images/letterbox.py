"""Fit whole images into one frame with their proportions kept, as detectors want them."""

from __future__ import annotations

from dataclasses import dataclass

BLACK = (0, 0, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Letterbox:
    """A frame that each image fills as far as its proportions allow; small images are enlarged."""

    size: tuple[int, int]
    """(height, width) of the frame, in pixels."""
    centred: bool = False
    """Whether the image lies in the middle; else at the top left."""
    fill: tuple[int, int, int] = BLACK
    """RGB of the rest of the frame, 0 to 255."""


def place_in_frame(letterbox: Letterbox, size: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
    """Compute where an image lies in its frame.

    Args:
        letterbox: The frame.
        size: (width, height) of the image.

    Returns:
        (width, height) after resizing, at least one pixel each; and (left, top) of the image in the frame.
    """
    height, width = letterbox.size
    scale = min(width / size[0], height / size[1])
    resized = (min(width, max(1, round(size[0] * scale))), min(height, max(1, round(size[1] * scale))))
    if not letterbox.centred:
        return resized, (0, 0)
    return resized, ((width - resized[0]) // 2, (height - resized[1]) // 2)
