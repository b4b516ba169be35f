"""Hints for error messages about unknown models."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from cvbatch.config.job import PYTHON
from cvbatch.config.model_files import ONNX, PROGRAM

_PREFIXES: Final = {".onnx": ONNX, ".pt2": PROGRAM}
_WEIGHTS_SUFFIXES: Final = frozenset({".pt", ".pth", ".ckpt", ".bin", ".safetensors", ".tar", ".h5", ".pkl"})


def file_for_a_model(model: str) -> str:
    """Say what to do if a file is given as a model; empty if it does not look like a file."""
    path, _, factory = model.partition(":")
    suffix = Path(model).suffix.lower()
    if suffix in _PREFIXES:
        prefix = _PREFIXES[suffix]
        return f"{model} is a file: expected {prefix}:FILE: {prefix}:{model}"
    suffix = Path(path).suffix.lower()
    if suffix == ".py":
        module = Path(path).stem
        return f"{path} is a file: expected python:MODULE:FACTORY, such as python:{module}:{factory or 'Model'}"
    if suffix in _WEIGHTS_SUFFIXES or ("/" in path and not path.startswith(PYTHON)) or Path(path).is_file():
        return (
            f"{model} is a file, not the name of a model: name the network of these weights, such as model: resnet50, "
            f"with checkpoint: {model} and categories: (--model resnet50 --set models.0.checkpoint={model} "
            "--set 'models.0.categories=[cat, dog]')"
        )
    return ""


def similar_names_hint(word: str, known_names: Iterable[str], lister: str = "cvbatch models") -> str:
    """The known names that are similar to a word, or all if they are few, as the end of a message.

    Args:
        word: What was given.
        known_names: All names.
        lister: What lists them, for the message.
    """
    known_names = list(known_names)
    close = difflib.get_close_matches(word, known_names, n=3, cutoff=0.5)
    if close:
        return f": did you mean {' or '.join(close)}?"
    return f": known are {', '.join(known_names)}" if len(known_names) <= 10 else f": `{lister}` lists them"
