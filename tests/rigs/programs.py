"""Programs that torch exports, and changed copies of them."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

MANY = torch.export.Dim("batch", min=1, max=64)


def save_program(
    module: nn.Module,
    path: Path,
    shape: Sequence[int] = (2, 3, 64, 64),
    *,
    dynamic: Mapping[int, Any] | None = None,
    dtype: torch.dtype = torch.float32,
    extra: Mapping[str, str] | None = None,
) -> Path:
    """Export a module and save it.

    Args:
        module: Put into evaluation mode.
        path: The file.
        shape: Of the images.
        dynamic: Open lengths by axis; by default the number of images.
        dtype: Of the images.
        extra: Texts beside the graph, by name.
    """
    for part in module.modules():
        part.eval()
    images = (torch.zeros(tuple(shape), dtype=dtype),)
    program = torch.export.export(module, images, dynamic_shapes=({0: MANY} if dynamic is None else dynamic,))
    torch.export.save(program, path, extra_files=dict(extra or {}))
    return path


def change_program(path: Path, target: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    """Copy a program with its files changed; their names are without the root folder.

    Args:
        path: The program.
        target: The copy.
        change: Gets the content of each file by its name, and may change, add and remove some.
    """
    with zipfile.ZipFile(path) as archive:
        root = archive.namelist()[0].partition("/")[0]
        files = {name.removeprefix(f"{root}/"): archive.read(name) for name in archive.namelist()}
    change(files)
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in files.items():
            archive.writestr(f"{root}/{name}", content)
    return target


def change_json(name: str, change: Callable[[Any], None]) -> Callable[[dict[str, bytes]], None]:
    """A change of the content of one JSON file."""

    def apply(files: dict[str, bytes]) -> None:
        content = json.loads(files[name])
        change(content)
        files[name] = json.dumps(content).encode()

    return apply
