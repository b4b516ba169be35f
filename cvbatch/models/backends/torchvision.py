"""Torchvision models with published, own or random weights."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import ClassVar, Final

from cvbatch.images.preprocess import View
from cvbatch.models import catalog, weights
from cvbatch.models.backends.catalogued import CataloguedBackend
from cvbatch.models.backends.torch_settings import torch_settings
from cvbatch.models.catalog import CatalogEntry, WeightsEntry
from cvbatch.models.download import Report
from cvbatch.models.spec import ModelSpec

_RESIZES_ITSELF: Final = View()
"""The view of networks that resize images themselves, as detectors do."""


class TorchvisionBackend(CataloguedBackend):
    """Models of torchvision's builders."""

    name = "torchvision"
    packages: ClassVar[Mapping[str, str]] = {"torch": "torch", "torchvision": "torchvision"}
    loader = "cvbatch.inference.torch.torchvision_loading"
    memory_follows_work = True

    def catalog_entries(self) -> Mapping[str, CatalogEntry]:
        """See `CataloguedBackend.catalog_entries`."""
        return catalog.catalog_entries()

    def find_weights_file(self, row: WeightsEntry) -> Path | None:
        """The file in torch's folder of downloaded weights."""
        return weights.find_weights_file(row)

    def published_file(
        self, entry: CatalogEntry, row: WeightsEntry, *, fetch: bool, report: Report | None
    ) -> tuple[Path, bool]:
        """The file in torch's folder, downloaded if it is missing and `fetch` is set."""
        return (
            (weights.fetch_weights(row, entry.name, report), True)
            if fetch
            else (weights.weights_folder() / row.file_name, False)
        )

    def applicable_settings(self, spec: ModelSpec) -> frozenset[str]:
        """See `torch_settings`; networks that resize images themselves can also pad them to share a batch."""
        return torch_settings(spec) | ({"padded"} if spec.view == _RESIZES_ITSELF else set())

    def network_key(self, spec: ModelSpec) -> Hashable:
        """Include the score threshold, because the network itself applies it."""
        return (super().network_key(spec), spec.score_threshold)

    def has_random_weights(self, spec: ModelSpec) -> bool:
        """Whether there is no weights file."""
        return spec.weights_path is None


TORCHVISION: Final = TorchvisionBackend()
