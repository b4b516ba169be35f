"""Files of weights as safetensors: which there are, what is in them, and several of them made one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from cvbatch.errors import ModelError
from cvbatch.models import weights
from cvbatch.system.cache_files import atomic_write_path, cache_file_path, lock_cache_file

SINGLE: Final = "model.safetensors"
INDEX: Final = "model.safetensors.index.json"
_PICKLED: Final = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl"})
_FOLDER: Final = "transformers"
_LENGTH_BYTES: Final = 8
_MOST_HEADER_BYTES: Final = 100_000_000
"""The format's own limit."""
_POINTER: Final = b"version https://git-lfs"


def weight_file_names(folder_names: Sequence[str], index: Mapping[str, Any] | None, name: str) -> list[str]:
    """Choose the files of the weights.

    Args:
        folder_names: Names of all files of the model.
        index: Content of `model.safetensors.index.json`, if there is one.
        name: Name of the model, for messages.

    Returns:
        One name, or those of all parts.

    Raises:
        ModelError: There are no safetensors.
    """
    if SINGLE in folder_names:
        return [SINGLE]
    if index is not None and isinstance(parts := index.get("weight_map"), Mapping) and parts:
        names = sorted({str(part) for part in parts.values()})
        if any("/" in part or "\\" in part for part in names):
            raise ModelError(f"{name}: expected files of weights beside {INDEX}, and it names {names[0]}")
        return names
    pickled = sorted(file for file in folder_names if Path(file).suffix in _PICKLED and file != "training_args.bin")
    if pickled:
        raise ModelError(
            f"{name}: its weights are pickled ({pickled[0]}), and a pickle may run code: where you trust it, load it "
            f"with its own library and save it as {SINGLE}, as save_pretrained() and timm's save_for_hf() do, or "
            "take a revision that has that file"
        )
    got = ", ".join(sorted(folder_names)[:5]) or "nothing"
    raise ModelError(f"{name}: expected weights as {SINGLE}, got a model with {got}")


def join_weight_files(paths: Sequence[Path], name: str) -> Path:
    """Return one file with all weights, so that it travels to workers as others do; parts are joined in the cache.

    Raises:
        ModelError: A file is missing, or is no safetensors.
    """
    for path in paths:
        if not path.is_file():
            raise ModelError(f"{name}: its weights are in {len(paths)} files, and {path.name} is missing: put it there")
    headers = [_read_header(path, name) for path in paths]
    if len(paths) == 1:
        return paths[0].resolve()
    whole = cache_file_path(_FOLDER, {"parts": [weights.file_sha256(path) for path in paths]}, ".safetensors")
    with lock_cache_file(whole):
        if not whole.is_file():
            with atomic_write_path(whole) as temporary:
                _write_joined(temporary, list(zip(paths, headers, strict=True)))
    return whole


def _write_joined(target: Path, parts: Sequence[tuple[Path, tuple[dict[str, Any], int]]]) -> None:
    """Write a file with the tensors of all parts: a header with moved offsets, then their bytes."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    start = 0
    for path, (tensors, data_start) in parts:
        for key, tensor in tensors.items():
            first, end = tensor["data_offsets"]
            header[key] = {**tensor, "data_offsets": [first + start, end + start]}
        start += path.stat().st_size - data_start
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % _LENGTH_BYTES)
    with target.open("wb") as out:
        out.write(len(text).to_bytes(_LENGTH_BYTES, "little") + text)
        for path, (_, data_start) in parts:
            with path.open("rb") as part:
                part.seek(data_start)
                shutil.copyfileobj(part, out, 1 << 20)


def _read_header(path: Path, name: str) -> tuple[dict[str, Any], int]:
    """The tensors of a file with their types, shapes and offsets, and the position of their first byte.

    The format: 8 bytes with the length of the header, the header as JSON, the tensors
    (https://github.com/huggingface/safetensors#format).
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        first = file.read(_LENGTH_BYTES)
        length = int.from_bytes(first, "little")
        text = file.read(length) if length <= min(size, _MOST_HEADER_BYTES) else b""
        if first == _POINTER[:_LENGTH_BYTES]:
            raise ModelError(f"{name}: {path.name} is a pointer of Git LFS, not the weights: run `git lfs pull`")
    try:
        header = json.loads(text)
    except ValueError:
        header = None
    if not isinstance(header, dict):
        raise ModelError(f"{name}: {path.name} is no whole file of safetensors: get it again")
    tensors = {key: tensor for key, tensor in header.items() if key != "__metadata__"}
    start = _LENGTH_BYTES + length
    if start + max((tensor["data_offsets"][1] for tensor in tensors.values()), default=0) != size:
        raise ModelError(f"{name}: {path.name} has {size} bytes, which is not its length: get it again")
    return tensors, start
