"""All uses of private or undocumented behaviour of torchvision.

Each entry says why it is needed. All work with torchvision 0.29.1, and
`tests/inference/torch/test_torchvision_compat.py` fails if an upgrade removes one. For the import itself, see
`fast_import`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from torch import Tensor
from torchvision.models import WeightsEnum
from torchvision.models.detection.roi_heads import paste_masks_in_image
from torchvision.models.detection.transform import GeneralizedRCNNTransform

__all__ = ["DETECTOR_HEADS", "GeneralizedRCNNTransform", "paste_masks_in_image", "states_from", "weights_facts"]
# The class and the function of detection are not documented. They are needed because the detectors resize images
# themselves, and paste all masks of an image together, which takes 4.8 GB for a photo of 12 megapixels.

DETECTOR_HEADS: Final = (
    *("rpn.head", "roi_heads.box_predictor", "roi_heads.mask_predictor", "roi_heads.keypoint_predictor"),
    "head",
)
"""Layers of the detectors whose outputs become scores, boxes, masks and keypoints; NaN is searched there, because
later it is dropped like a low score."""

_ONE_FILE = threading.RLock()


@contextmanager
def states_from(read: Callable[[], Mapping[str, Tensor]]) -> Iterator[None]:
    """Let builders load the state dict of `read`, by replacing `WeightsEnum.get_state_dict` temporarily.

    The builder itself must load pretrained weights, because it does more (frozen batch norms, another epsilon, renamed
    keys); but its own function would unpickle anything, and read only its own folder. Threads take turns; threads
    outside of this context still use torchvision's own function.

    Args:
        read: Returns the state dict.
    """
    with _ONE_FILE:
        original, owner = WeightsEnum.get_state_dict, threading.get_ident()

        def get_state_dict(self: WeightsEnum, *args: Any, **kwargs: Any) -> Mapping[str, Tensor]:
            state: Mapping[str, Tensor] = read() if threading.get_ident() == owner else original(self, *args, **kwargs)
            return state

        WeightsEnum.get_state_dict = get_state_dict
        try:
            yield
        finally:
            WeightsEnum.get_state_dict = original


def weights_facts(meta: Mapping[str, Any]) -> dict[str, Any]:
    """Facts about weights that torchvision's documentation lists, under our names; no public attribute has them.

    Args:
        meta: `meta` of a member of a `WeightsEnum`.
    """
    return {"megabytes": meta["_file_size"], "gflops": meta["_ops"], "metrics": meta["_metrics"]}
