"""NanoDet-g, the embedded default for detection; its weights are part of this package."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Final

from cvbatch.images.letterbox import Letterbox
from cvbatch.images.preprocess import View
from cvbatch.models.backends.packaged import PackagedBackend
from cvbatch.models.catalog import COCO_80, CatalogEntry, WeightsEntry
from cvbatch.tasks import DETECTION

NANODET_G: Final = "nanodet_g"
_FILE: Final = Path(__file__).parent.with_name("nanodet_g") / "nanodet_g.safetensors"
_WEIGHTS: Final = WeightsEntry(
    name="COCO",
    url="https://github.com/RangiLyu/nanodet",
    sha256_prefix="3a988b71",
    megabytes=7.6,
    params=3_786_068,
    gflops=2.1,
    licence="Apache-2.0",
    categories=COCO_80,
    metrics={"COCO-val2017": {"box_map": 22.9}},
    view=View(letterbox=Letterbox(size=(416, 416))),
)
_ENTRY: Final = CatalogEntry(
    name=NANODET_G, tasks=(DETECTION.name,), default=_WEIGHTS.name, weights={_WEIGHTS.name: _WEIGHTS}
)


class NanoDetBackend(PackagedBackend):
    """NanoDet-g."""

    name = "nanodet"
    packages: ClassVar[Mapping[str, str]] = {"torch": "torch", "torchvision": "torchvision"}
    loader = "cvbatch.inference.torch.nanodet_loading"
    entry = _ENTRY
    weights_package = "cvbatch"

    def packaged_file(self) -> Path | None:
        """See `PackagedBackend.packaged_file`."""
        return _FILE if _FILE.is_file() else None


NANODET: Final = NanoDetBackend()
