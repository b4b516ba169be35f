"""EfficientNet-Lite0: four tasks from one classifier.

The classifier applied at every position of the last feature map gives class activation maps (Zhou et al.,
arXiv:1512.04150), which show where a class is. With a view of 384 pixels they are fine enough for boxes and masks.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from functools import cached_property
from typing import Any

import torch
from efficientnet_lite_pytorch import EfficientNet
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from cvbatch.images.preprocess import Size
from cvbatch.inference.network import Answers, Image
from cvbatch.inference.torch import checkpoint, class_activation_maps
from cvbatch.inference.torch.tensors import BatchNormalizer, to_numpy
from cvbatch.models import weights
from cvbatch.models.spec import ModelSpec
from cvbatch.tasks import TASKS, output_checks
from cvbatch.tasks.base import ModelFacts
from cvbatch.tasks.detection import BoxAnswer, score_threshold
from cvbatch.tasks.segmentation import SegmentAnswer, emitted_label_ids

MEAN = (0.498, 0.498, 0.498)
STD = (0.502, 0.502, 0.502)
_ARCHITECTURE = "efficientnet-lite0"
_PAIRS = (
    ("_conv_stem", "_bn0"),
    ("_expand_conv", "_bn0"),
    ("_depthwise_conv", "_bn1"),
    ("_project_conv", "_bn2"),
    ("_conv_head", "_bn1"),
)
"""Convolutions of the network and of its blocks, each with the following batch norm."""


class Lite0Network:
    """EfficientNet-Lite0.

    Args:
        features: Maps a batch to the last feature map; see `FeatureExtractor`.
        head: Maps features to logits, at each position.
        batch: Makes batches with the normalization of the weights.
    """

    def __init__(self, features: Callable[[Tensor], Tensor], head: nn.Module, batch: BatchNormalizer) -> None:
        self._features, self._head = features, head
        self._batch = batch

    def batch_key(self, image: Image) -> Hashable:
        """The shape of the image."""
        return image.shape

    def run_batch(self, images: Sequence[Image], sizes: Sequence[Size], specs: Sequence[ModelSpec]) -> Answers:
        """See `ForwardPass.run_batch`."""
        features = self._features(self._batch(images))[: len(images)]
        outputs = Lite0Outputs(features, self._head, sizes)
        return {spec.alias: TASKS[spec.task].take_answers(outputs, spec) for spec in specs}


class Lite0Outputs:
    """Outputs for a batch; each part is computed once, when a task reads it.

    Args:
        features: The last feature map, (images, channels, height, width).
        head: Maps features to logits, at each position.
        sizes: (width, height) of each oriented original.
    """

    def __init__(self, features: Tensor, head: nn.Module, sizes: Sequence[Size]) -> None:
        self._features, self._head, self._sizes = features, head, sizes
        self._by_threshold: dict[float, list[list[class_activation_maps.ActivationRegion]]] = {}

    @cached_property
    def scores(self) -> list[Any]:
        """Probabilities of the classes for each image: float32, (classes,)."""
        return list(to_numpy(torch.softmax(self._head(self._pooled_features).float(), dim=1)))

    @cached_property
    def vectors(self) -> list[Any]:
        """A feature vector for each image: float32, (dimension,)."""
        return list(to_numpy(self._pooled_features))

    def boxes(self, model: ModelFacts) -> list[BoxAnswer]:
        """The boxes of each image."""
        return [
            class_activation_maps.regions_to_boxes(regions, size) for regions, size in self._activation_regions(model)
        ]

    def segments(self, model: ModelFacts) -> list[SegmentAnswer]:
        """The segments of each image."""
        return [
            class_activation_maps.regions_to_segments(regions, size)
            for regions, size in self._activation_regions(model)
        ]

    @cached_property
    def _pooled_features(self) -> Tensor:
        return self._features.float().mean(dim=(2, 3))

    def _activation_regions(
        self, model: ModelFacts
    ) -> Iterator[tuple[list[class_activation_maps.ActivationRegion], Size]]:
        threshold = score_threshold(model, class_activation_maps.THRESHOLD)
        if threshold not in self._by_threshold:
            maps = self._head(self._features.permute(0, 2, 3, 1)).permute(0, 3, 1, 2).float().cpu()
            if not maps.isfinite().all():
                raise output_checks.invalid_output_error(model, "expected finite class maps, got NaN or infinity")
            self._by_threshold[threshold] = [
                class_activation_maps.find_regions(image, emitted_label_ids(model), threshold) for image in maps
            ]
        return zip(self._by_threshold[threshold], self._sizes, strict=True)


class FeatureExtractor(nn.Module):
    """The network without its head.

    Args:
        module: The whole network, on its device.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self._module: Any = module

    def forward(self, batch: Tensor) -> Tensor:
        """Return the last feature map: (batch, channels, height, width)."""
        features: Tensor = self._module.extract_features(batch)
        return features


def classifier_head(module: nn.Module) -> nn.Module:
    """The layer that turns features into scores."""
    layer: nn.Module = module.get_submodule("_fc")
    return layer


def construct_lite0(num_classes: int) -> nn.Module:
    """Build the network with random weights, for images of any size.

    Args:
        num_classes: Number of outputs of its head.
    """
    module: nn.Module = EfficientNet.from_name(_ARCHITECTURE, num_classes=num_classes, image_size=None)
    return module


def load_lite0(spec: ModelSpec) -> nn.Module:
    """Build the network of a spec and load its weights.

    Raises:
        ModelError: The file is not a state dict of this network.
    """
    module = construct_lite0(len(spec.categories))
    state = checkpoint.read_matching_state(weights.fetch_for_spec(spec), list(module.state_dict()))
    module.load_state_dict(checkpoint.drop_auxiliary_heads(state, module))
    return fuse_batch_norms(module.eval())


def fuse_batch_norms(module: nn.Module) -> nn.Module:
    """Fold batch norms into convolutions, and let convolutions pad where both sides have equal padding.

    The answers differ by at most 1e-5. The package pads and normalizes in separate passes over memory.

    Args:
        module: In evaluation mode; changed in place.
    """
    for block in list(module.modules()):
        for convolution, norm in _PAIRS:
            if isinstance(getattr(block, convolution, None), nn.Conv2d):
                fused = fuse_conv_bn_eval(getattr(block, convolution), getattr(block, norm))
                setattr(block, convolution, _pad_symmetrically(fused) if fused.stride == (1, 1) else fused)
                setattr(block, norm, nn.Identity())
    return module


def _pad_symmetrically(layer: nn.Conv2d) -> nn.Conv2d:
    plain = nn.Conv2d(
        layer.in_channels,
        layer.out_channels,
        (layer.kernel_size[0], layer.kernel_size[1]),
        padding=(layer.kernel_size[0] // 2, layer.kernel_size[1] // 2),
        groups=layer.groups,
    )
    plain.load_state_dict(layer.state_dict())
    return plain


def lite0_state_shapes(num_classes: int) -> dict[str, torch.Size]:
    """Shapes of all parameters and buffers for a number of classes, without allocating them."""
    with torch.device("meta"):
        return {key: value.shape for key, value in construct_lite0(num_classes).state_dict().items()}
