"""Batches equal torchvision's own preprocessing, bit for bit; a lost device is told from a bad image."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torchvision.transforms._presets import ImageClassification

from cvbatch.errors import DeviceLostError, RowError, capture_row_error
from cvbatch.images.preprocess import View, apply_view
from cvbatch.inference.torch.tensors import BatchNormalizer, InferenceContext
from cvbatch.testing import generate_images


def test_batches_are_those_of_torchvision() -> None:
    images = generate_images()
    transforms = ImageClassification(crop_size=224, resize_size=232)
    pixels = [apply_view(View(resize=232, crop=(224, 224)), image) for image in images]
    batch = BatchNormalizer(transforms.mean, transforms.std, "cpu")(pixels)
    assert batch.is_contiguous(memory_format=torch.channels_last)
    assert batch.dtype == torch.float32
    np.testing.assert_array_equal(batch.numpy(), np.stack([transforms(image).numpy() for image in images]))


def guarded(error: Exception) -> InferenceContext:
    """A network on whose every call the device, or the code, fails."""

    class Failing:
        def batch_key(self, image: Any) -> None:
            return None

        def run_batch(self, *_: Any) -> Any:
            raise error

    return InferenceContext(Failing(), device="cpu", precision="fp32")


@pytest.mark.parametrize(
    "message",
    [
        "CUDA error: an illegal memory access was encountered",
        "CUDA error: unspecified launch failure\nCompile with `TORCH_USE_CUDA_DSA`",
        "cuDNN failed: CUDA error: device-side assert triggered",
    ],
)
def test_an_error_that_stays_with_the_process_is_not_an_error_of_a_row(message: str) -> None:
    network = guarded(RuntimeError(message))
    with pytest.raises(DeviceLostError) as caught:
        capture_row_error("predict", lambda: network.run_batch([], [], []))
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("shapes do not match"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB; CUDA error debugging: …"),
        ValueError("CUDA error, says the model"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_every_other_error_is(error: Exception) -> None:
    network = guarded(error)
    failed = capture_row_error("predict", lambda: network.run_batch([], [], []))
    assert isinstance(failed, RowError)
    assert failed.type == type(error).__name__
