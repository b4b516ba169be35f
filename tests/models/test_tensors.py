"""Batches equal torchvision's own preprocessing, bit for bit."""

from __future__ import annotations

import numpy as np
import torch
from torchvision.transforms._presets import ImageClassification

from cvbatch.models.tensors import Normalised
from cvbatch.testing import generate_images
from cvbatch.views import View, apply


def test_batches_are_those_of_torchvision() -> None:
    images = generate_images()
    transforms = ImageClassification(crop_size=224, resize_size=232)
    pixels = [apply(View(resize=232, crop=(224, 224)), image) for image in images]
    batch = Normalised(transforms.mean, transforms.std, "cpu")(pixels)
    assert batch.is_contiguous(memory_format=torch.channels_last)
    assert batch.dtype == torch.float32
    np.testing.assert_array_equal(batch.numpy(), np.stack([transforms(image).numpy() for image in images]))
