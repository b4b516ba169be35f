from __future__ import annotations

import io

import numpy as np
from PIL import Image

from cvbatch.images.preprocess import apply_view
from cvbatch.training.near_images import THUMBNAIL, grey_values, group_near_images
from tests.conftest import make_photo


def thumbnail(image: Image.Image) -> np.ndarray:
    return grey_values(apply_view(THUMBNAIL, image.convert("RGB")))


def test_copies_in_other_sizes_and_qualities_are_one_and_other_photos_are_not(tmp_path: object) -> None:
    from pathlib import Path

    assert isinstance(tmp_path, Path)
    photos = [Image.open(make_photo(tmp_path / f"{seed}.jpg", seed=seed)).convert("RGB") for seed in range(4)]
    images, keys = list[Image.Image](), list[str]()
    for number, photo in enumerate(photos):
        encoded = io.BytesIO()
        photo.save(encoded, "JPEG", quality=40)
        smaller = photo.resize((photo.width // 2, photo.height // 2), Image.Resampling.BILINEAR)
        images += [photo, Image.open(encoded), smaller]
        keys += [f"{number}a", f"{number}b", f"{number}c"]
    groups = group_near_images(keys, np.stack([thumbnail(image) for image in images]))
    assert groups == [f"{number}a" for number in range(4) for _ in range(3)]


def test_chains_are_one_group_and_equal_keys_stay_equal() -> None:
    rising = np.repeat(np.arange(0, 200, 2, dtype=np.uint8)[:, None], 256, axis=1)
    keys = [f"{index:03d}" for index in range(100)]
    assert set(group_near_images(keys, rising)) == {"000"}
    apart = np.repeat(np.array([[0], [50], [50], [200]], np.uint8), 256, axis=1)
    assert group_near_images(["d", "b", "c", "d"], apart) == ["d", "b", "b", "d"]


def test_pairs_are_those_of_all_comparisons_over_several_blocks() -> None:
    draw = np.random.default_rng(0)
    base = draw.integers(0, 250, (1500, 256)).astype(np.uint8)
    noisy = base[:700] + draw.integers(0, 3, (700, 256)).astype(np.uint8)
    keys = [f"{index:05d}" for index in range(2200)]
    groups = group_near_images(keys, np.concatenate([base, noisy]))
    assert groups == [*keys[:1500], *keys[:700]]
