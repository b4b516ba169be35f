"""Find the file of a graph, the files of its weights, and the YAML file beside it, on a disk or in a bucket."""

from __future__ import annotations

import shutil
import tarfile
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cvbatch.config.job import ModelConfig
from cvbatch.config.model_files import ONNX
from cvbatch.errors import ModelError, try_call
from cvbatch.models import weights
from cvbatch.models.graphs.keys import GraphKeys
from cvbatch.models.graphs.places import FileKind, ModelPlace, find_place, read_keys_beside
from cvbatch.models.onnx.opening import import_onnx_packages, parse_onnx_file
from cvbatch.system.cache_files import atomic_write_path, cache_file_path, lock_cache_file

_MOST_BYTES: Final = 2_000_000_000
"""Protocol Buffers cannot hold more in one file."""
_FOLDER: Final = "onnx"
_PACKED: Final = ".tar"
_GRAPH: Final = "model.onnx"
_KIND: Final = FileKind(prefix=ONNX, noun="an ONNX file", most_bytes=64 << 30)


@dataclass(frozen=True, slots=True)
class GraphFile:
    """A graph with all of its weights in one file."""

    path: Path
    """On this machine."""
    spec_path: str
    """What the spec stores: the path, or the URI of an object."""
    sha256: str
    name: str
    """For messages, without its folder."""
    proto: Any
    """`onnx.ModelProto`, without external data."""
    keys: GraphKeys
    """Of the YAML file beside it."""


def fetch_graph_file(config: ModelConfig) -> GraphFile:
    """Find the file of a model, and what belongs to it.

    A graph with weights in a file of its own becomes one file in the cache, so that it travels to workers as others do.

    Args:
        config: Its `checkpoint` is a path or the URI of an object.

    Raises:
        ModelError: There is no such file, it is not ONNX, or a file of its weights is missing.
        UsageError: A package is missing.
    """
    place = find_place(config, _KIND)
    path = place.model_path()
    proto = parse_onnx_file(path, place.name)
    sha256 = weights.check_file_hash(path, config.sha256 or "", name=place.name)
    keys = read_keys_beside(place)
    names = _external_names(proto)
    if not names:
        return GraphFile(path, place.spec_path, sha256, place.name, proto, keys)
    whole = _join_external_data(path, sha256, place.name, {name: _data_path(place, name) for name in names})
    return GraphFile(whole, str(whole), weights.file_sha256(whole), place.name, proto, keys)


def _data_path(place: ModelPlace, name: str) -> Path:
    try:
        return place.data_path(name)
    except FileNotFoundError as error:
        raise ModelError(
            f"{place.name}: its weights are in a file of their own, {name}, and there is none in {error}: put it "
            "there, or export with external_data=False"
        ) from None


def _external_names(proto: Any) -> list[str]:
    """Names of the files that hold weights, relative to the graph's."""
    tensors = (tensor for tensor in proto.graph.initializer if tensor.data_location == tensor.EXTERNAL)
    entries = (entry for tensor in tensors for entry in tensor.external_data if entry.key == "location")
    names = list(dict.fromkeys(entry.value for entry in entries))
    for name in names:
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise ModelError(f"expected files of weights beside the graph, and it names {name}")
    return names


def unpack_graph_file(path: Path) -> Path:
    """The graph in a file that `fetch_graph_file` joined; one that was too large for one is unpacked in the cache."""
    if path.suffix != _PACKED:
        return path
    folder = cache_file_path(_FOLDER, {"unpacked": weights.file_sha256(path)}, "")
    with lock_cache_file(folder):
        if not folder.is_dir():
            with tempfile.TemporaryDirectory(dir=folder.parent) as temporary, tarfile.open(path) as archive:
                archive.extractall(Path(temporary, "whole"), filter="data")
                Path(temporary, "whole").rename(folder)
    return folder / _GRAPH


def _join_external_data(path: Path, sha256: str, name: str, data: Mapping[str, Path]) -> Path:
    """One file in the cache: a graph, or if it would be too large for the format, an archive of all files."""
    is_large = sum(file.stat().st_size for file in (path, *data.values())) > _MOST_BYTES
    hashes = {data_name: weights.file_sha256(file) for data_name, file in data.items()}
    whole = cache_file_path(_FOLDER, {"model": sha256, "data": hashes}, _PACKED if is_large else ".onnx")
    with lock_cache_file(whole):
        if not whole.is_file():
            with atomic_write_path(whole) as temporary:
                (_pack_files if is_large else _write_joined)(temporary, path, name, data)
    return whole


def _pack_files(target: Path, path: Path, name: str, data: Mapping[str, Path]) -> None:
    with tarfile.open(target, "w") as archive:
        for member, file in {_GRAPH: path, **data}.items():
            archive.add(file.resolve(), member)


def _write_joined(target: Path, path: Path, name: str, data: Mapping[str, Path]) -> None:
    onnx, _ = import_onnx_packages()
    with tempfile.TemporaryDirectory() as folder:
        for data_name, file in data.items():
            copy = Path(folder, data_name)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)  # onnx reads no links
        proto = onnx.load(str(path), load_external_data=False)
        loaded = try_call(lambda: onnx.load_external_data_for_model(proto, folder))
    if isinstance(loaded, Exception):
        raise ModelError(f"{name}: its weights cannot be read: {' '.join(str(loaded).split())[:300]}")
    onnx.save(proto, str(target))
