"""Torchvision's builders and their weights, read from `catalog.json` without importing torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from cvbatch.images.preprocess import View

CATALOG_FILE = Path(__file__).with_name("catalog.json")
CATEGORIES_FILE = Path(__file__).with_name("categories.json")
COCO_80 = "coco-80"
"""COCO's classes without a background and without gaps; torchvision numbers them with both."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsEntry:
    """One member of a builder's weights enum."""

    name: str
    url: str
    sha256_prefix: str
    """The first hexadecimal digits, at least 8; the file name ends with them, too."""
    megabytes: float
    params: int
    gflops: float
    licence: str
    categories: str
    """Name of the category set."""
    metrics: Mapping[str, Mapping[str, float]]
    view: View

    @property
    def file_name(self) -> str:
        """File name in the folder of downloaded weights."""
        return self.url.rpartition("/")[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogEntry:
    """One builder: a row of the catalog."""

    name: str
    tasks: tuple[str, ...]
    """Tasks that it can do; the first is the default."""
    default: str
    """Name of the default weights."""
    weights: Mapping[str, WeightsEntry]
    dimension: int | None = None
    """Length of its embedding vector."""
    masks: bool = False
    keypoints: bool = False
    note: str = ""

    def view_for_task(self, weights: str, task: str) -> View:
        """How images must look for a task.

        Args:
            weights: Name in the weights enum.
            task: One of `tasks`.
        """
        return self.weights[weights].view

    def gflops_for_task(self, weights: str, task: str) -> float:
        """Work of one forward pass, in GFLOPs, on one image of the usual size."""
        return self.weights[weights].gflops


@cache
def catalog_entries() -> Mapping[str, CatalogEntry]:
    """The catalog, by builder name."""
    rows = json.loads(CATALOG_FILE.read_text(encoding="utf-8"))["models"]
    return {name: _parse_entry(name, row) for name, row in rows.items()}


@cache
def category_set(name: str) -> tuple[str | None, ...]:
    """Names of one category set, by label id; None where an id is never emitted.

    Args:
        name: Such as `imagenet-1k` or `coco-91`.
    """
    if name == COCO_80:
        return tuple(category for category in category_set("coco-91") if category is not None)
    return tuple(json.loads(CATEGORIES_FILE.read_text(encoding="utf-8"))[name])


@cache
def category_set_names() -> frozenset[str]:
    """Names that `category_set` knows."""
    return frozenset((*json.loads(CATEGORIES_FILE.read_text(encoding="utf-8")), COCO_80))


def _parse_entry(name: str, row: dict[str, Any]) -> CatalogEntry:
    return CatalogEntry(
        name=name,
        tasks=tuple(row["tasks"]),
        default=row["default"],
        weights={key: _parse_weights(key, dict(value)) for key, value in row["weights"].items()},
        dimension=row.get("dimension"),
        masks=row.get("masks", False),
        keypoints=row.get("keypoints", False),
    )


def _parse_weights(name: str, row: dict[str, Any]) -> WeightsEntry:
    crop = row.pop("crop", None)
    view = View(
        resize=row.pop("resize", None),
        crop=None if crop is None else (crop, crop),
        interpolation=row.pop("interpolation", "bilinear"),
    )
    return WeightsEntry(name=name, view=view, **row)
