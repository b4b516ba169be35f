"""Views of another size."""

from __future__ import annotations

import pytest

from cvbatch.errors import JobError
from cvbatch.images.letterbox import Letterbox
from cvbatch.images.preprocess import View, compute_output_size
from cvbatch.training.views import sized_view


def test_crops_keep_their_margin_and_frames_their_proportions() -> None:
    assert sized_view(View(resize=256, crop=(224, 224)), 112) == View(resize=128, crop=(112, 112))
    assert sized_view(View(letterbox=Letterbox(size=(416, 416))), 128) == View(letterbox=Letterbox(size=(128, 128)))
    assert sized_view(View(resize=520), None) == View(resize=520)


@pytest.mark.parametrize("view", [View(), View(resize=520)])
def test_whole_images_get_a_longer_side(view: View) -> None:
    sized = sized_view(view, 100)
    assert compute_output_size(sized, (400, 300)) == (100, 75)
    assert compute_output_size(sized_view(sized, 80), (400, 300)) == (80, 60), "a result is learned from again"


def test_sizes_that_a_network_cannot_have_are_refused() -> None:
    with pytest.raises(JobError, match="image_size: expected a multiple of 32 for this network, got 100"):
        sized_view(View(letterbox=Letterbox(size=(416, 416))), 100)
    with pytest.raises(JobError, match="image_size: ssd300_vgg16 sees images of one size only"):
        sized_view(View(), 128, "ssd300_vgg16")
