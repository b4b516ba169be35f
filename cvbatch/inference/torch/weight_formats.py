"""Recognize by its first bytes what a weights file is: users also pass many other files."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from cvbatch.errors import ModelError

_HEAD: Final = 1024
_LENGTH: Final = 8
"""Bytes of the header length at the start of a safetensors file."""
_LFS: Final = b"version https://git-lfs.github.com/spec/"
_MAGIC: Final = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""First bytes of files of torch.save that are not zip archives."""
_SAVE: Final = "torch.save(model.state_dict(), FILE) writes one"
_PACKED: Final = "unpack it, and give the file inside"
_OTHERS: Final = (
    (b"\x1f\x8b", f"packed with gzip: {_PACKED}"),
    (b"BZh", f"packed with bzip2: {_PACKED}"),
    (b"\xfd7zXZ\x00", f"packed with xz: {_PACKED}"),
    (b"\x28\xb5\x2f\xfd", f"packed with zstd: {_PACKED}"),
    (b"7z\xbc\xaf\x27\x1c", f"a 7-Zip archive: {_PACKED}"),
    (b"Rar!", f"a RAR archive: {_PACKED}"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file, as Keras writes them; expected weights of PyTorch"),
    (b"\x93NUMPY", "an array of NumPy; expected weights of PyTorch"),
    (b"GGUF", "a GGUF file; expected weights of PyTorch"),
    (b"%PDF", "a PDF"),
    (b"\xff\xd8\xff", "a JPEG"),
    (b"\x89PNG", "a PNG"),
    (b"PAR1", "a Parquet file"),
)


def is_safetensors(path: str) -> bool:
    """Whether a file has a safetensors header, whatever its name."""
    size, head = Path(path).stat().st_size, _file_head(path)
    length = int.from_bytes(head[:_LENGTH], "little")
    return size > _LENGTH and 0 < length <= size - _LENGTH and head[_LENGTH : _LENGTH + 1] == b"{"


def check_is_torch(path: str) -> None:
    """Refuse a file that `torch.save` did not write.

    Raises:
        ModelError: The message says what the file is.
    """
    head = _file_head(path)
    if zipfile.is_zipfile(path):
        description = _describe_zip(path)
    elif head[:4] == b"PK\x03\x04":
        description = "damaged, or cut off: its end is missing; fetch it again"
    else:
        description = _describe_format(path, head)
    if description:
        raise ModelError(f"{path} is {description}")


def _file_head(path: str) -> bytes:
    with Path(path).open("rb") as file:
        return file.read(_HEAD)


def _describe_format(path: str, head: bytes) -> str:
    text = head.lstrip().lower()
    if not head:
        return "empty: fetch it again"
    if head.startswith(_LFS):
        return "a pointer of Git LFS, not the weights themselves: `git lfs pull` fetches them"
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        return "a web page, not weights: download the file itself, not the page that shows it"
    if head[257:262] == b"ustar":
        return f"a tar archive: {_PACKED}"
    if head[4:8] == b"TFL3":
        return "a model of TensorFlow Lite; expected weights of PyTorch"
    if _is_onnx(path, head):
        return f"a model of ONNX, which runs as model: onnx:FILE; expected a state dict of PyTorch here: {_SAVE}"
    if path.endswith((".pb", ".index", ".tflite")) or ".data-0000" in path:
        return "a file of TensorFlow; expected weights of PyTorch"
    if text.startswith((b"{", b"[")):
        return "JSON: an index or a configuration, not weights"
    if head[:1] == b"\x80" and not head.startswith(_MAGIC):
        return f"a pickle, but not of torch.save; expected a state dict: {_SAVE}"
    if _is_text_head(head):
        return "text, not weights"
    return next((description for magic, description in _OTHERS if head.startswith(magic)), "")


def _is_onnx(path: str, head: bytes) -> bool:
    """Whether a file starts as ONNX does: a version, a small number, and the name of the program that wrote it."""
    return path.endswith(".onnx") or (head[:1] == b"\x08" and head[2:3] == b"\x12" and head[3] < len(head))


def _is_text_head(head: bytes) -> bool:
    return all(byte >= 0x20 or byte in b"\t\r\n" for byte in head)


def _describe_zip(path: str) -> str:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    if any(name.endswith("/constants.pkl") for name in names):
        return f"a TorchScript archive, which is a program; expected a state dict: {_SAVE}"
    if any(name.endswith("data.pkl") for name in names):
        return ""
    if any(name.endswith(".npy") for name in names):
        return "an .npz archive of NumPy; expected weights of PyTorch"
    if any(name.endswith(".weights.h5") for name in names):
        return "a model of Keras; expected weights of PyTorch"
    if any("models/" in name and name.endswith((".json", ".pt")) for name in names):
        return f"a program of torch.export; expected a state dict: {_SAVE}"
    return f"a zip archive with {_describe_members(names)}: {_PACKED}"


def _describe_members(names: Sequence[str]) -> str:
    return f"{len(names)} files, {names[0]} first" if names else "nothing in it"
