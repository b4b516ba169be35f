"""Small pictures stay within their bytes, upright, and of the right size."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from cvbatch.report.drawing import LONG_SIDE, draw_images, draw_part, encode_thumbnail
from tests.report.runs import small_run


def open_picture(data: bytes | None) -> Image.Image:
    assert data is not None
    return Image.open(io.BytesIO(data))


def test_a_picture_that_does_not_fit_gets_worse_and_then_smaller() -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (900, 1200, 3), dtype=np.uint8))
    sizes = []
    for most in (1 << 20, 30_000, 6_000):
        data = encode_thumbnail(noise, most)
        assert len(data) <= most
        sizes.append(open_picture(data).size)
    assert sizes[0] == (LONG_SIDE, 300)
    assert sizes[2][0] < sizes[1][0] <= LONG_SIDE


def test_images_are_turned_as_the_run_has_turned_them(tmp_path: Path) -> None:
    run = small_run(tmp_path, [b"turned.jpg"], orientation=6)
    hashes = dict(zip([0], run.hashes, strict=True))
    (drawn,) = draw_images(run.opened, hashes, 20_000)
    assert open_picture(drawn.data).size == (48, 64)
    assert drawn.month == "2024-01"
    assert draw_part(run.opened.location, hashes, 20_000) == [drawn]


def test_a_changed_or_missing_image_has_a_reason(tmp_path: Path) -> None:
    run = small_run(tmp_path, [b"0.jpg", b"1.jpg", b"2.jpg"])
    Path(run.files[1]).unlink()
    hashes = dict(enumerate(run.hashes)) | {2: "0" * 64}
    drawn = {image.row_id: image for image in draw_images(run.opened, hashes, 20_000)}
    assert drawn[0].problem is None
    assert (drawn[1].problem or "").startswith("NotFound: ")
    assert drawn[2].problem == "the image has changed since"
