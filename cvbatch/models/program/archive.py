"""Read a file of `torch.export.save`: a zip with a graph as JSON, and its weights as plain numbers.

torch's own loader unpickles what a file marks as a pickle, evaluates its sizes as Python and generates source code from
its names, so that a file can run anything. Here, JSON and numbers are all that is read, and only known operations run.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from cvbatch.errors import ModelError

_MAJOR: Final = 8
"""Of the schema that torch 2.14 writes."""
_MODEL: Final = "/models/model.json"
_WEIGHTS: Final = "data/weights/"
_CONSTANTS: Final = "data/constants/"
_EXTRA: Final = "extra/"
_COMPILED: Final = ("data/aotinductor/", "data/executorch/")
_NUMBERS: Final = ("weight_", "tensor_")
"""How the files of tensors begin; others are pickled objects."""
_MOST_JSON_BYTES: Final = 256 << 20
_MOST_EXTRA_BYTES: Final = 4 << 20
_PICKLES: Final = b"\x80"
_AGAIN: Final = "torch.export.save(torch.export.export(model.eval(), (images,)), FILE) writes one"


class ProgramArchive:
    """An open file; use it as a context manager.

    Args:
        path: The file.
        name: Its name in messages.

    Raises:
        ModelError: It is something else, or holds pickles or compiled code.
    """

    def __init__(self, path: Path, name: str) -> None:
        self.name = name
        if not zipfile.is_zipfile(path):
            raise ModelError(f"{name} {_describe_other(path)}: expected a program of torch.export: {_AGAIN}")
        with ExitStack() as stack:
            self._zip = stack.enter_context(zipfile.ZipFile(path))
            self._root = self._find_root()
            self.model: dict[str, Any] = self._read_model()
            stack.pop_all()

    def __enter__(self) -> ProgramArchive:
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    def metadata(self) -> dict[str, str]:
        """Texts that `extra_files` of `torch.export.save` has put beside the graph, by name."""
        prefix = f"{self._root}/{_EXTRA}"
        return {
            entry.filename.removeprefix(prefix): self._zip.read(entry).decode("utf-8", "replace")
            for entry in self._zip.infolist()
            if entry.filename.startswith(prefix) and entry.file_size <= _MOST_EXTRA_BYTES
        }

    def iter_tensors(self) -> Iterator[tuple[str, Mapping[str, Any], bytes]]:
        """All weights and constants: name, type with shape and strides as the schema has them, and bytes.

        Raises:
            ModelError: One of them is pickled, or its bytes are missing.
        """
        for name, meta, file in self._tensor_files():
            yield name, meta, self._read_entry(file)

    def check_tensors(self) -> None:
        """Check that no weight is a pickle, without reading numbers.

        Raises:
            ModelError: See `iter_tensors`.
        """
        for folder in (_WEIGHTS, _CONSTANTS):
            if f"{self._root}/{folder}model.pt" in self._zip.namelist():
                raise ModelError(
                    f"{self.name}: its weights are a pickle, as earlier versions of torch wrote them: {_AGAIN}"
                )
        for _, _, file in self._tensor_files():
            if f"{self._root}/{file}" not in self._zip.namelist():
                raise ModelError(f"{self.name}: {file} is missing: get it again")

    def _tensor_files(self) -> Iterator[tuple[str, Mapping[str, Any], str]]:
        for folder, config in ((_WEIGHTS, "model_weights_config.json"), (_CONSTANTS, "model_constants_config.json")):
            for name, entry in self._read_config(f"{folder}{config}").items():
                file = str(entry.get("path_name"))
                if entry.get("use_pickle") or not file.startswith(_NUMBERS) or not entry.get("tensor_meta"):
                    raise ModelError(
                        f"{self.name}: {name} is stored as a pickle, which may run code: expected plain tensors only"
                    )
                yield name, entry["tensor_meta"], f"{folder}{file}"

    def _find_root(self) -> str:
        names = self._zip.namelist()
        if len(set(names)) != len(names):
            raise ModelError(f"{self.name}: two files in it have the same name: get it again")
        roots = [name.removesuffix(_MODEL) for name in names if name.endswith(_MODEL)]
        compiled = [name for name in names if any(f"/{folder}" in name for folder in _COMPILED)]
        if len(roots) == 1 and not compiled:
            return roots[0]
        raise ModelError(f"{self.name} {_describe_zip(names, compiled)}: expected a program of torch.export: {_AGAIN}")

    def _read_model(self) -> dict[str, Any]:
        model = self._read_json(f"{self._root}{_MODEL}")
        version = model.get("schema_version")
        major = version.get("major") if isinstance(version, Mapping) else None
        if major != _MAJOR:
            raise ModelError(
                f"{self.name}: torch {model.get('torch_version', 'of another version')} wrote it with the schema "
                f"{major}, and {_MAJOR} is known: {_AGAIN}"
            )
        return model

    def _read_config(self, name: str) -> dict[str, Any]:
        entries = self._read_json(f"{self._root}/{name}").get("config")
        if not isinstance(entries, dict) or not all(isinstance(entry, dict) for entry in entries.values()):
            raise ModelError(f"{self.name}: {name} is damaged: get it again")
        return entries

    def _read_json(self, name: str) -> dict[str, Any]:
        try:
            size = self._zip.getinfo(name).file_size
            content = json.loads(self._zip.read(name)) if size <= _MOST_JSON_BYTES else None
        except (KeyError, ValueError, zipfile.BadZipFile):
            content = None
        if not isinstance(content, dict):
            raise ModelError(f"{self.name}: {name} is missing or damaged: get it again")
        return content

    def _read_entry(self, name: str) -> bytes:
        try:
            return self._zip.read(f"{self._root}/{name}")
        except (KeyError, zipfile.BadZipFile):
            raise ModelError(f"{self.name}: {name} is missing or damaged: get it again") from None


def _describe_other(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(8)
    if head[:4] == b"PK\x03\x04":
        return "is cut off"
    return "is a pickle, which may run code and is never loaded" if head[:1] == _PICKLES else "is something else"


def _describe_zip(names: Sequence[str], compiled: Sequence[str]) -> str:
    if any(name.endswith("/constants.pkl") for name in names):
        return "is a TorchScript file, which is refused: it holds code that would be run, and torch has deprecated it"
    if compiled:
        return "holds compiled code, which is never run"
    if any(name.endswith("data.pkl") for name in names):
        return "is a pickle of torch.save, which may run code and is never loaded"
    if "serialized_exported_program.json" in names:
        return "is a program as torch before 2.8 wrote it"
    return "is another zip archive"
