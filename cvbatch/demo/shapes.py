"""Coloured shapes on crops of real photos, with exact truth for classification, detection and segmentation."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from cvbatch.demo.archive import find_photo_folder
from cvbatch.errors import UsageError
from cvbatch.schema import HEIGHT, WIDTH
from cvbatch.tasks.masks import Mask, encode_mask

SHAPES: Final = ("circle", "square", "star", "triangle")
"""Names of the classes."""
_PHOTOS: Final = ("astronaut", "brick", "camera", "chelsea", "coffee", "grass", "gravel", "motorcycle_left", "rocket")
_CORNERS: Final = {"circle": (64, 1.0), "square": (4, 1.0), "star": (10, 0.45), "triangle": (3, 1.0)}
"""Of each shape: corners, and how near to the centre every second one lies, as a share of the radius."""
_MAIN_RADIUS: Final = (0.2, 0.32)
_SMALL_RADIUS: Final = (0.07, 0.11)
"""As shares of the shorter side; so the main shape is always the largest."""
_TURN: Final = 0.35
"""Greatest turn in radians."""
_LEAST_CONTRAST: Final = 120
"""Least distance between the colour of a shape and the mean behind it."""
_TRIES: Final = 40
_QUALITY: Final = 92


@dataclass(frozen=True, slots=True)
class ShapeSet:
    """The files of a set."""

    folder: Path

    @property
    def images(self) -> Path:
        """Folder of JPEG files such as `00000.jpg`."""
        return self.folder / "images"

    @property
    def labels(self) -> Path:
        """CSV: the class of each image is that of its largest shape."""
        return self.folder / "labels.csv"

    @property
    def objects(self) -> Path:
        """COCO JSON with the box and the mask of each shape."""
        return self.folder / "objects.json"

    @property
    def masks(self) -> Path:
        """Folder of PNG masks with `classes.txt`; 0 is the background."""
        return self.folder / "masks"


@dataclass(slots=True)
class _Annotations:
    images: list[dict[str, Any]] = field(default_factory=list)
    objects: list[dict[str, Any]] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)


def generate_shapes(
    folder: Path | str,
    count: int,
    *,
    seed: int = 0,
    classes: Sequence[str] = SHAPES,
    shares: Mapping[str, float] | None = None,
    most_shapes: int = 3,
    longest_side: int = 128,
    photos: Path | str | None = None,
) -> ShapeSet:
    """Generate images with one large shape and some small ones, none hidden; the same for the same arguments.

    Args:
        folder: Written: `images/`, `labels.csv`, `objects.json`, `masks/`.
        count: Number of images.
        seed: Different seeds give different images.
        classes: Of `SHAPES`.
        shares: How often each class is that of the large shape, relative to the others; by default equally often.
        most_shapes: Greatest number of shapes in an image.
        longest_side: Of the images, in pixels; sides vary between three quarters of it and all of it.
        photos: Folder of photos for the backgrounds; by default those of scikit-image.

    Raises:
        UsageError: If a class is unknown, or there are no photos.
    """
    unknown = [name for name in (*classes, *(shares or {})) if name not in SHAPES]
    if unknown:
        raise UsageError(f"classes: expected some of {', '.join(SHAPES)}; got {unknown[0]!r}")
    files = ShapeSet(Path(folder))
    for part in (files.images, files.masks):
        part.mkdir(parents=True, exist_ok=True)
    backgrounds = _read_photos(None if photos is None else Path(photos))
    weights = np.array([1.0 if shares is None else shares.get(name, 0.0) for name in classes])
    annotations = _Annotations()
    for number in range(count):
        draw = np.random.default_rng((seed, number))
        pixels = _draw_background(draw, backgrounds, longest_side)
        main = int(draw.choice(len(classes), p=weights / weights.sum()))
        others = draw.integers(0, len(classes), draw.integers(0, most_shapes))
        masks = _paint_shapes(draw, pixels, [classes[index] for index in (main, *others.tolist())])
        _save_image(files, f"{number:05d}", pixels, masks, classes)
        _annotate(annotations, f"{number:05d}", masks, classes)
    _save_annotations(files, annotations, classes)
    return files


def _read_photos(folder: Path | None) -> list[Image.Image]:
    paths = (
        [path for name in _PHOTOS for path in find_photo_folder().glob(f"{name}.*")]
        if folder is None
        else sorted(path for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    )
    if not paths:
        raise UsageError(f"{folder}: expected photos (JPEG or PNG), got none")
    return [Image.open(path).convert("RGB") for path in paths]


def _draw_background(
    draw: np.random.Generator, photos: Sequence[Image.Image], longest_side: int
) -> npt.NDArray[np.uint8]:
    """A crop of a photo, (height, width, 3)."""
    photo = photos[int(draw.integers(len(photos)))]
    width, height = (int(side) for side in draw.integers(round(0.75 * longest_side), longest_side + 1, 2))
    most = min(photo.width / width, photo.height / height)
    scale = most * draw.uniform(0.4, 1.0)
    crop_width, crop_height = max(1, int(width * scale)), max(1, int(height * scale))
    left, top = draw.integers(0, photo.width - crop_width + 1), draw.integers(0, photo.height - crop_height + 1)
    box = (int(left), int(top), int(left) + crop_width, int(top) + crop_height)
    return np.array(photo.resize((width, height), Image.Resampling.BILINEAR, box=box))


def _paint_shapes(
    draw: np.random.Generator, pixels: npt.NDArray[np.uint8], names: Sequence[str]
) -> list[tuple[str, Mask]]:
    """Paint shapes with gaps between them; those for which there is no room are left out, the first one never."""
    taken = np.zeros(pixels.shape[:2], np.bool_)
    painted: list[tuple[str, Mask]] = []
    for name in names:
        for _ in range(_TRIES):
            mask, box = _draw_shape(draw, name, taken.shape, _SMALL_RADIUS if painted else _MAIN_RADIUS)
            if not taken[box].any():
                taken[box] = True
                _paint(draw, pixels, mask)
                painted.append((name, mask))
                break
    return painted


def _draw_shape(
    draw: np.random.Generator, name: str, size: tuple[int, ...], radii: tuple[float, float]
) -> tuple[Mask, tuple[slice, slice]]:
    """A shape that lies within the image, and the rows and columns around it."""
    height, width = size
    radius = draw.uniform(*radii) * min(size)
    x, y = draw.uniform(radius + 1, width - radius - 1), draw.uniform(radius + 1, height - radius - 1)
    corners, inner = _CORNERS[name]
    first = draw.uniform(-_TURN, _TURN) - math.pi / (4 if name == "square" else 2)
    angles = first + np.arange(corners) * 2 * math.pi / corners
    lengths = np.where(np.arange(corners) % 2, inner, 1.0) * radius
    points = np.stack([x + lengths * np.cos(angles), y + lengths * np.sin(angles)], axis=1)
    canvas = Image.new("1", (width, height))
    ImageDraw.Draw(canvas).polygon([(float(across), float(down)) for across, down in points], fill=1)
    mask = np.array(canvas)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return mask, (slice(rows[0], rows[-1] + 2), slice(columns[0], columns[-1] + 2))


def _paint(draw: np.random.Generator, pixels: npt.NDArray[np.uint8], mask: Mask) -> None:
    """Fill a mask with a colour that differs from what is behind it."""
    behind = pixels[mask].mean(axis=0)
    for _ in range(_TRIES):
        colour = draw.integers(0, 256, 3)
        if np.linalg.norm(colour - behind) > _LEAST_CONTRAST:
            break
    noise = draw.normal(0, 6, (int(mask.sum()), 3))
    pixels[mask] = np.clip(colour + noise, 0, 255).astype(np.uint8)


def _save_image(
    files: ShapeSet,
    name: str,
    pixels: npt.NDArray[np.uint8],
    masks: Sequence[tuple[str, Mask]],
    classes: Sequence[str],
) -> None:
    Image.fromarray(pixels).save(files.images / f"{name}.jpg", quality=_QUALITY, subsampling=0)
    labels = np.zeros(pixels.shape[:2], np.uint8)
    for shape, mask in masks:
        labels[mask] = 1 + classes.index(shape)
    Image.fromarray(labels).save(files.masks / f"{name}.png")


def _annotate(annotations: _Annotations, name: str, masks: Sequence[tuple[str, Mask]], classes: Sequence[str]) -> None:
    height, width = masks[0][1].shape
    image = len(annotations.images) + 1
    annotations.images.append({"id": image, "file_name": f"{name}.jpg", WIDTH: width, HEIGHT: height})
    annotations.labels.append(masks[0][0])
    for shape, mask in masks:
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        box = (columns[0], rows[0], columns[-1] + 1 - columns[0], rows[-1] + 1 - rows[0])
        found: dict[str, Any] = {
            "id": len(annotations.objects) + 1,
            "image_id": image,
            "category_id": 1 + classes.index(shape),
            "bbox": [int(number) for number in box],
            "area": int(mask.sum()),
            "iscrowd": 0,
        }
        found["segmentation"] = {"size": [height, width], "counts": encode_mask(mask).decode()}
        annotations.objects.append(found)


def _save_annotations(files: ShapeSet, annotations: _Annotations, classes: Sequence[str]) -> None:
    content = {
        "images": annotations.images,
        "categories": [{"id": number, "name": name} for number, name in enumerate(classes, start=1)],
        "annotations": annotations.objects,
    }
    files.objects.write_text(json.dumps(content), encoding="utf-8")
    (files.masks / "classes.txt").write_text("\n".join(("background", *classes)) + "\n", encoding="utf-8")
    with files.labels.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("file_name", "label"))
        names = [image["file_name"] for image in annotations.images]
        rows.writerows(zip(names, annotations.labels, strict=True))
