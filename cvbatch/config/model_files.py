"""Models that are named by their files: `onnx:FILE` is short for `model: onnx` with `checkpoint: FILE`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Final

from cvbatch.storage.location import is_object_uri

ONNX: Final = "onnx"
"""Name of the models whose `checkpoint` is a file with a graph."""
PROGRAM: Final = "program"
"""Name of the models whose `checkpoint` is a program of torch.export."""
HUGGING_FACE: Final = "hf"
"""Name of the models whose `checkpoint` is a folder of transformers; `hf:NAME` is one of the hub."""
TIMM: Final = "timm"
"""Name of the models whose `checkpoint` is a folder that timm saved; `timm:NAME` is one of its registry."""
_WITH_NAMES: Final = (HUGGING_FACE, TIMM)
"""Prefixes that may be followed by the name of a model, too."""
TRAINED: Final = "trained"
"""Name of the models whose `checkpoint` is a folder that `cvbatch train` wrote."""
TRAINED_FILE: Final = "model.json"
"""The file in such a folder that describes the model."""
_STARTS_OF_PATHS: Final = (".", "/", "~", "$")


def split_model_file(model: Mapping[str, Any], folder: str | None = None) -> Mapping[str, Any]:
    """Return a job's entry of a model with the file in `checkpoint`, where files of models are looked for.

    `hf:TEXT` and `timm:TEXT` are folders if they are written as a path, or if there is such a folder; else they name a
    model of the hub or of timm.
    A name that is a location in a bucket, or a folder with a result of `cvbatch train`, is that result.

    Args:
        model: The entry, before it is checked; returned as it is if its model is no file, or names another checkpoint.
        folder: Folder from which a path is relative; None for the current one.
    """
    name = model.get("model")
    if not isinstance(name, str) or model.get("checkpoint"):
        return model
    prefix, separator, path = name.partition(":")
    if separator and (prefix in (ONNX, PROGRAM) or (prefix in _WITH_NAMES and _is_model_folder(path, folder))):
        return {**model, "model": prefix, "checkpoint": path}
    if is_object_uri(name) or _is_trained_folder(name, folder):
        return {**model, "model": TRAINED, "checkpoint": name}
    return model


def _is_trained_folder(path: str, folder: str | None) -> bool:
    full = os.path.join(folder or "", os.path.expanduser(path))
    return "\0" not in path and os.path.isfile(os.path.join(full, TRAINED_FILE))


def _is_model_folder(path: str, folder: str | None) -> bool:
    return path.startswith(_STARTS_OF_PATHS) or ("\0" not in path and os.path.isdir(os.path.join(folder or "", path)))
