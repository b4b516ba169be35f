"""Write `catalog.json` and `categories.json` from the installed torchvision.

Run `python -m cvbatch.inference.torch.generate` after upgrading torchvision, and commit the changes. With the two
files, the driver resolves models in milliseconds, without importing torch.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import torchvision
from torchvision import models as zoo

from cvbatch.inference.torch.torchvision_compat import weights_facts
from cvbatch.inference.torch.torchvision_families import FAMILIES, BuilderFamily
from cvbatch.inference.torch.torchvision_models import OnMetaDevice, construct_builder, embedding_head
from cvbatch.models.catalog import CATALOG_FILE, CATEGORIES_FILE

_NOT_AN_OBJECT = frozenset({"__background__", "N/A", "no person"})
_SHA256_PREFIX = re.compile(r"-([0-9a-f]{8,})\.pth$")
_SWAG_LICENCE = "CC-BY-NC-4.0"


def generate_catalog() -> tuple[dict[str, Any], dict[str, list[str | None]]]:
    """Read the content of the two files from torchvision.

    Returns:
        The catalog, `{"torchvision": version, "models": {builder: entry}}`, and the category sets by name.
    """
    entries: dict[str, Any] = {}
    categories: dict[str, list[str | None]] = {}
    for family in FAMILIES:
        for name in zoo.list_models(module=family.module):
            entries[name] = _builder_entry(name, family, categories)
    return {"torchvision": torchvision.__version__.partition("+")[0], "models": entries}, categories


def read_catalog() -> tuple[dict[str, Any], dict[str, list[str | None]]]:
    """Read the present content of the two files, in the form of `generate_catalog`."""
    catalog, categories = (json.loads(path.read_text(encoding="utf-8")) for path in (CATALOG_FILE, CATEGORIES_FILE))
    return catalog, categories


def _builder_entry(name: str, family: BuilderFamily, categories: dict[str, list[str | None]]) -> dict[str, Any]:
    members = list(zoo.get_model_weights(name))
    default = zoo.get_model_weights(name).DEFAULT
    entry: dict[str, Any] = {"tasks": [task.name for task in family.tasks], "default": default.name}
    if any("dimension" in task.facts for task in family.tasks):
        with OnMetaDevice():
            network = construct_builder(name, num_classes=2)
        entry["dimension"] = embedding_head(network).dimension
    if name.startswith("maskrcnn"):
        entry["masks"] = True
    if name.startswith("keypointrcnn"):
        entry["keypoints"] = True
    entry["weights"] = {
        member.name: _weights_entry(member, categories)
        for member in members
        if member.meta["categories"]  # the others are only features without a head: VGG-16 for SSD
    }
    return entry


def _weights_entry(member: Any, categories: dict[str, list[str | None]]) -> dict[str, Any]:
    meta, facts = member.meta, weights_facts(member.meta)
    file = member.url.rpartition("/")[2]
    prefix = _SHA256_PREFIX.search(file)
    if prefix is None:
        raise ValueError(f"expected a hash in the name of {file}")
    row = {
        "url": member.url,
        "sha256_prefix": prefix[1],
        "megabytes": facts["megabytes"],
        "params": meta["num_params"],
        "gflops": facts["gflops"],
        "licence": _SWAG_LICENCE if "SWAG" in meta.get("license", "") else "BSD-3-Clause",
        "categories": _category_set(meta["categories"], categories),
        "metrics": facts["metrics"],
    }
    return row | _view_of_transforms(member.transforms())


def _view_of_transforms(transforms: Any) -> dict[str, Any]:
    view: dict[str, Any] = {}
    if getattr(transforms, "resize_size", None):
        view["resize"] = _single_size(transforms.resize_size)
        view["interpolation"] = transforms.interpolation.value
    if getattr(transforms, "crop_size", None):
        view["crop"] = _single_size(transforms.crop_size)
    return view


def _single_size(size: Sequence[int]) -> int:
    if len(size) != 1:
        raise ValueError(f"expected one number for the shorter side, got {size}")
    return size[0]


def _category_set(names: Sequence[str], categories: dict[str, list[str | None]]) -> str:
    names_by_length = {1000: "imagenet-1k", 91: "coco-91", 21: "voc-21", 2: "coco-person"}
    key = names_by_length[len(names)]
    categories_by_id = [None if name in _NOT_AN_OBJECT else name for name in names]
    if categories.setdefault(key, categories_by_id) != categories_by_id:
        raise ValueError(f"two different category sets of length {len(names)}: name the new one")
    return key


def _dump_json(data: dict[str, Any], inner: str | None = None) -> str:
    rows = data[inner] if inner else data
    lines = ",\n".join(f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in rows.items())
    if inner is None:
        return f"{{\n{lines}\n}}\n"
    head = "".join(f"{json.dumps(key)}: {json.dumps(value)},\n" for key, value in data.items() if key != inner)
    return f'{{\n{head}"{inner}": {{\n{lines}\n}}\n}}\n'


def main() -> None:
    """Write both files beside this module."""
    catalog, categories = generate_catalog()
    CATALOG_FILE.write_text(_dump_json(catalog, "models"), encoding="utf-8")
    CATEGORIES_FILE.write_text(_dump_json(categories), encoding="utf-8")


if __name__ == "__main__":
    main()
