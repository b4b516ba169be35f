"""Find the file of a graph, the files of its weights, and the YAML file beside it, on a disk or in a bucket."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cvbatch.config.job import ModelConfig
from cvbatch.errors import DeniedError, ModelError, TooLargeError, try_call
from cvbatch.models import weights
from cvbatch.models.onnx.graph import import_onnx_packages, parse_onnx_file
from cvbatch.models.onnx.keys import OnnxKeys, parse_key_file
from cvbatch.storage.location import Location, is_object_uri, redact_secrets
from cvbatch.system.cache_files import atomic_write_path, cache_file_path, lock_cache_file

_MOST_BYTES: Final = 2_000_000_000
"""Protocol Buffers cannot hold more in one file."""
_MOST_KEY_BYTES: Final = 4 << 20
_FOLDER: Final = "onnx"


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
    keys: OnnxKeys
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
    given = str(config.checkpoint)
    place = _Bucket(Location.from_uri(given, config.storage_options)) if is_object_uri(given) else _Folder(given)
    path = place.model_path()
    proto = parse_onnx_file(path, place.name)
    sha256 = weights.check_file_hash(path, config.sha256 or "", name=place.name)
    keys_name = f"{Path(place.name).stem}.yaml"
    text = place.read_text(keys_name)
    keys = OnnxKeys() if text is None else parse_key_file(text, keys_name)
    names = _external_names(proto)
    if not names:
        return GraphFile(path, place.spec_path, sha256, place.name, proto, keys)
    whole = _join_external_data(path, sha256, place.name, {name: place.data_path(name) for name in names})
    return GraphFile(whole, str(whole), weights.file_sha256(whole), place.name, proto, keys)


class _Folder:
    """A model on a disk."""

    def __init__(self, given: str) -> None:
        self._path = Path(given).expanduser()
        self.name = self._path.name
        self.spec_path = str(self._path.resolve())
        if "://" in given:
            raise ModelError(
                f"{redact_secrets(given)}: expected a file on this machine or in a bucket: copy the model there"
            )

    def model_path(self) -> Path:
        if not self._path.is_file():
            what = "a folder, not a file" if self._path.is_dir() else "missing"
            raise ModelError(f"onnx:{self._path}: expected an ONNX file, and it is {what}")
        return self._path

    def data_path(self, name: str) -> Path:
        path = self._path.parent / name
        if not path.is_file():
            raise _missing_data(self.name, name, str(self._path.parent))
        return path

    def read_text(self, name: str) -> str | None:
        path = self._path.parent / name
        return path.read_text(encoding="utf-8") if path.is_file() else None


class _Bucket:
    """A model in an object store."""

    def __init__(self, location: Location) -> None:
        self._location = location
        self.spec_path = location.uri
        self._folder, _, self.name = location.uri.rpartition("/")

    def model_path(self) -> Path:
        try:
            return self._fetch(self._location)
        except FileNotFoundError:
            raise ModelError(f"onnx:{self._location}: there is no such object") from None

    def data_path(self, name: str) -> Path:
        try:
            return self._fetch(self._beside(name))
        except FileNotFoundError:
            raise _missing_data(self.name, name, self._folder) from None

    def read_text(self, name: str) -> str | None:
        from cvbatch.storage.buckets import open_bucket  # a local file needs no object store client

        location = self._beside(name)
        try:
            return open_bucket(location).get_object(location.key, _MOST_KEY_BYTES).data.decode()
        except (FileNotFoundError, DeniedError):  # without the right to list, a missing object is denied
            return None

    def _beside(self, name: str) -> Location:
        return Location.from_uri(f"{self._folder}/{name}", self._location.options)

    def _fetch(self, location: Location) -> Path:
        from cvbatch.storage.download_cache import fetch_newest

        try:
            return fetch_newest(location, _MOST_BYTES)[0]
        except TooLargeError as error:
            raise ModelError(f"onnx:{location}: {error}") from None


def _missing_data(name: str, data_name: str, folder: str) -> ModelError:
    return ModelError(
        f"{name}: its weights are in a file of their own, {data_name}, and there is none in {folder}: put it there, or "
        "export with external_data=False"
    )


def _external_names(proto: Any) -> list[str]:
    """Names of the files that hold weights, relative to the graph's."""
    tensors = (tensor for tensor in proto.graph.initializer if tensor.data_location == tensor.EXTERNAL)
    entries = (entry for tensor in tensors for entry in tensor.external_data if entry.key == "location")
    names = list(dict.fromkeys(entry.value for entry in entries))
    for name in names:
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise ModelError(f"expected files of weights beside the graph, and it names {name}")
    return names


def _join_external_data(path: Path, sha256: str, name: str, data: Mapping[str, Path]) -> Path:
    onnx, _ = import_onnx_packages()
    if (size := sum(file.stat().st_size for file in (path, *data.values()))) > _MOST_BYTES:
        raise ModelError(f"{name}: expected at most 2 GB with all weights, got {size / 1e9:.1f} GB")
    hashes = {data_name: weights.file_sha256(file) for data_name, file in data.items()}
    whole = cache_file_path(_FOLDER, {"model": sha256, "data": hashes}, ".onnx")
    with lock_cache_file(whole):
        if not whole.is_file():
            with tempfile.TemporaryDirectory() as folder, atomic_write_path(whole) as temporary:
                for data_name, file in data.items():
                    target = Path(folder, data_name)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(file, target)  # onnx reads no links
                proto = onnx.load(str(path), load_external_data=False)
                loaded = try_call(lambda: onnx.load_external_data_for_model(proto, folder))
                if isinstance(loaded, Exception):
                    raise ModelError(f"{name}: its weights cannot be read: {' '.join(str(loaded).split())[:300]}")
                onnx.save(proto, str(temporary))
    return whole
