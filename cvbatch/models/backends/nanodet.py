"""NanoDet-g, the embedded detector; its weights are part of this package."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Final

from cvbatch.errors import ModelError
from cvbatch.images.letterbox import Letterbox
from cvbatch.images.preprocess import View
from cvbatch.models.backends.catalogued import CataloguedBackend
from cvbatch.models.backends.torch_settings import torch_settings
from cvbatch.models.catalog import COCO_80, CatalogEntry, WeightsEntry
from cvbatch.models.download import Report
from cvbatch.models.spec import ModelSpec
from cvbatch.tasks import DETECTION

NANODET_G: Final = "nanodet_g"
_FILE: Final = Path(__file__).parent.with_name("nanodet_g") / "nanodet_g.safetensors"
_WEIGHTS: Final = WeightsEntry(
    name="COCO",
    url="https://github.com/RangiLyu/nanodet",
    sha256_prefix="3a988b71",
    megabytes=7.6,
    params=3_786_068,
    gflops=4.2,
    licence="Apache-2.0",
    categories=COCO_80,
    metrics={"COCO-val2017": {"box_map": 22.9}},
    view=View(letterbox=Letterbox(size=(416, 416))),
)
_ENTRY: Final = CatalogEntry(
    name=NANODET_G, tasks=(DETECTION.name,), default=_WEIGHTS.name, weights={_WEIGHTS.name: _WEIGHTS}
)


class NanoDetBackend(CataloguedBackend):
    """NanoDet-g."""

    name = "nanodet"
    packages: ClassVar[Mapping[str, str]] = {"torch": "torch", "torchvision": "torchvision"}
    loader = "cvbatch.inference.torch.nanodet_loading"

    def catalog_entries(self) -> Mapping[str, CatalogEntry]:
        """See `CataloguedBackend.catalog_entries`."""
        return {NANODET_G: _ENTRY}

    def find_weights_file(self, row: WeightsEntry) -> Path | None:
        """The file in this package."""
        return _FILE

    def published_file(
        self, entry: CatalogEntry, row: WeightsEntry, *, fetch: bool, report: Report | None
    ) -> tuple[Path, bool]:
        """The file in this package."""
        return _FILE, True

    def random_weights(self, entry: CatalogEntry) -> None:
        """See `CataloguedBackend.random_weights`."""
        raise ModelError(f"{entry.name} comes with its weights: leave out `weights: null`")

    def applicable_settings(self, spec: ModelSpec) -> frozenset[str]:
        """See `torch_settings`."""
        return torch_settings(spec)


NANODET: Final = NanoDetBackend()
