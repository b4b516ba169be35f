"""Crops, cut-out masks, objects that are removed, and the sheet of those that were missed."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cvbatch as api
from cvbatch.edits.base import FoundObject, OriginalImage
from cvbatch.edits.crops import Crops
from cvbatch.edits.cutout import Cutout
from cvbatch.edits.found_objects import select_objects
from cvbatch.edits.object_files import object_path
from cvbatch.edits.remove import Remove
from cvbatch.edits.sheet import draw_near_misses
from cvbatch.errors import ImageError
from cvbatch.results.committed import open_output
from tests.edits.made_runs import made_run
from tests.edits.test_picture import BOX, MAX_PIXELS, SIZE, noise, opened, saved


def original(image: Image.Image, *found: FoundObject) -> OriginalImage:
    return OriginalImage("a/b.png", saved(image, "PNG"), image.size, MAX_PIXELS, found)


@pytest.mark.parametrize(
    ("margin", "square", "box", "size", "corner"),
    [
        (0.0, False, BOX, (8, 7), (4, 2)),
        (0.25, False, BOX, (12, 11), (2, 0)),
        (0.0, True, BOX, (8, 8), (4, 2)),
        (0.0, False, (20.0, 10.0, 40.0, 40.0), (4, 6), (20, 10)),
    ],
)
def test_crops(
    margin: float, square: bool, box: tuple[float, ...], size: tuple[int, int], corner: tuple[int, int]
) -> None:
    picture = noise("RGB")
    found = FoundObject("dog", 0.9, (box[0], box[1], box[2], box[3]))
    edited = Crops(margin, square, "png").edit_image(original(picture, found))
    assert [file.path for file in edited.files] == ["dog/a/b.png-0.png"]
    crop = opened(edited.files[0].data)
    assert crop.size == size
    left, top = corner
    expected = np.asarray(picture)[top : top + size[1], left : left + size[0]]
    assert (np.asarray(crop)[: len(expected)] == expected).all()


def test_a_square_is_black_where_the_picture_ends() -> None:
    edited = Crops(0.0, True, "png").edit_image(original(noise("RGB"), FoundObject("dog", 0.9, (0, 0, 24, 4))))
    pixels = np.asarray(opened(edited.files[0].data))
    assert pixels.shape == (24, 24, 3)
    assert (pixels[:10] == 0).all()
    assert (pixels[10:] > 0).all()


def test_an_object_outside_has_no_file() -> None:
    edited = Crops(0.0, False, "jpg").edit_image(original(noise("RGB"), FoundObject("dog", 0.9, (30, 30, 40, 40))))
    assert (edited.files, edited.actions) == ([], ["outside"])


@pytest.mark.parametrize(
    ("label", "folder"),
    [
        ("../x", "__x"),
        ("a/b", "a_b"),
        ("", "_"),
        ("_audit", "__audit"),
        ("Käfer", "Käfer"),
        ("..", "_"),
        ("a\nb", "a_b"),
    ],
)
def test_the_folder_of_a_class_leads_nowhere_else(label: str, folder: str) -> None:
    assert object_path(label, "x.jpg", 3, "png") == f"{folder}/x.jpg-3.png"


@pytest.mark.parametrize("extension", ["png", "webp"])
def test_cutout(extension: str) -> None:
    mask = np.zeros(SIZE[::-1], np.bool_)
    mask[2:9, 4:12] = True
    mask[2, 4] = False
    picture = noise("RGB")
    edited = Cutout(0.0, extension).edit_image(original(picture, FoundObject("dog", 0.9, BOX, mask)))
    pixels = np.asarray(opened(edited.files[0].data))
    assert pixels.shape == (7, 8, 4)
    assert (pixels[0, 0] == 0).all(), "nothing of the ground remains, not even unseen"
    assert (pixels[..., 3] == mask[2:9, 4:12] * 255).all()
    assert (pixels[1:, :, :3] == np.asarray(picture)[3:9, 4:12]).all()


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P"])
def test_an_object_on_plain_ground_is_removed(mode: str) -> None:
    pixels = np.full((60, 80, 3), (90, 140, 190), np.uint8)
    pixels[20:40, 30:50] = (250, 20, 20)
    whole = Image.fromarray(pixels)
    picture = whole.quantize(8) if mode == "P" else whole.convert(mode)
    edited = Remove(0.1).edit_image(original(picture, FoundObject("dog", 0.9, (30, 20, 50, 40))))
    after = opened(edited.files[0].data)
    assert after.mode == mode
    ground = np.asarray(Image.new("RGB", (1, 1), (90, 140, 190)).convert("L" if mode == "L" else "RGB").convert("RGB"))
    assert np.abs(np.asarray(after.convert("RGB")).astype(int) - ground).max() <= 4, "about as the ground"


def test_what_cannot_be_removed_is_an_error() -> None:
    with pytest.raises(ImageError) as caught:
        Remove(0.0).edit_image(original(noise("RGB"), FoundObject("dog", 0.9, (0, 0, *SIZE))))
    assert caught.value.kind == "NothingAround"
    with pytest.raises(ImageError) as caught:
        Remove(0.0).edit_image(original(noise("I;16"), FoundObject("dog", 0.9, BOX)))
    assert caught.value.kind == "UnsupportedMode"


def test_the_sheet_shows_what_just_missed_the_threshold(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    noise("RGB").save(tmp_path / "photos" / "a.png")
    scores = (0.9, 0.19, 0.12, 0.05)
    run = made_run(
        str(tmp_path / "photos"), str(tmp_path / "run"), lambda *_: [("person", score, BOX) for score in scores]
    )
    output = open_output(run)
    count, picture = draw_near_misses(output, select_objects(output, None, ["person"], 0.2))
    assert count == 2, "0.05 is less than half of the threshold"
    assert picture is not None
    sheet = Image.open(io.BytesIO(picture))
    assert sheet.size == (16 + 2 * 216, 16 + 256)
    assert draw_near_misses(output, select_objects(output, None, ["car"], 0.2)) == (0, None)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda run, to: api.redact_images(run, to, classes=["persn"]), "persn"),
        (lambda run, to: api.redact_images(run, to, classes=[]), "at least one name"),
        (lambda run, to: api.redact_images(run, to, classes=None, how="smear"), "blur, pixelate, fill"),  # type: ignore[arg-type]
        (lambda run, to: api.redact_images(run, to, classes=None, min_score=2), "min_score"),
        (lambda run, to: api.crop_objects(run, to, extension="gif"), "jpg, png, webp"),
        (lambda run, to: api.cut_out_objects(run, to), "masks"),
        (lambda run, to: api.remove_objects(run, to, classes=None, grow=-1), "grow"),
        (lambda run, to: api.redact_images(run, to, classes=None, model="x"), "detection"),
    ],
)
def test_a_wrong_option_is_refused_before_anything_starts(tmp_path: Path, edit: object, message: str) -> None:
    (tmp_path / "photos").mkdir()
    noise("RGB").save(tmp_path / "photos" / "a.png")
    run = made_run(str(tmp_path / "photos"), str(tmp_path / "run"), lambda *_: [])
    with pytest.raises(api.CvbatchError, match=message):
        edit(run, str(tmp_path / "to"))  # type: ignore[operator]
    assert not (tmp_path / "to").exists()
