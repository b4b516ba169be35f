"""Everything that rests on private or undocumented behaviour of torchvision, in one place.

Each entry says why it is needed. All were seen with torchvision 0.29.1, and
`tests/inference/torch/test_torchvision_compat.py` fails when an upgrade takes one away. What importing torchvision
costs is in `fast_import`.
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
# The two classes and functions of detection are on no page of its documentation. The detectors resize inside, and paste
# all masks of an image at once, which takes 4.8 GB for a photo of 12 megapixels.

DETECTOR_HEADS: Final = (
    *("rpn.head", "roi_heads.box_predictor", "roi_heads.mask_predictor", "roi_heads.keypoint_predictor"),
    "head",
)
"""Layers of the detectors whose outputs become scores, boxes, masks and keypoints; NaN is looked for there, as later on
it is sorted out like a low score."""

_ONE_FILE = threading.RLock()


@contextmanager
def states_from(read: Callable[[], Mapping[str, Tensor]]) -> Iterator[None]:
    """Let builders take their weights from us, by replacing `WeightsEnum.get_state_dict` for a while.

    They do more with pretrained weights than load them (frozen batch norms, another epsilon, renamed keys), so it must
    be the builder that loads; but it would unpickle anything, and look only into its own folder. Threads take turns,
    and one that is not in here gets torchvision's own function all the same.

    Args:
        read: Gives the state dict.
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
    """What torchvision's own pages say of some weights, under our names; nothing public has it.

    Args:
        meta: Of a member of a `WeightsEnum`.
    """
    return {"megabytes": meta["_file_size"], "gflops": meta["_ops"], "metrics": meta["_metrics"]}
