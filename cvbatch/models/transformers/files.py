"""Find the files of a model, in a folder or on the hub."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from cvbatch.config.job import ModelConfig
from cvbatch.config.model_files import HUGGING_FACE
from cvbatch.errors import ModelError, try_call
from cvbatch.models.download import Report
from cvbatch.models.transformers.safetensors_files import INDEX, join_weight_files, weight_file_names
from cvbatch.storage.location import is_object_uri, redact_secrets

CONFIG: Final = "config.json"
_MOST_JSON_BYTES: Final = 64 << 20
_PROCESSORS: Final = ("processor_config.json", "preprocessor_config.json")
_FRONT_MATTER: Final = re.compile(r"\A\s*---\s*\n(.*?)\n---\s*\n", re.DOTALL)


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """The files of a model; its weights may still have to be fetched."""

    title: str
    """As the job names it, for messages."""
    name: str
    """Of the folder or on the hub."""
    path: Path
    revision: str | None
    """Commit of the hub; None for a folder."""
    file_names: Sequence[str]
    """All files at the top of the model, here or on the hub."""
    fetch: Callable[[Sequence[str]], None]
    """Makes files of these names be in `path`."""

    def read_config(self) -> dict[str, Any]:
        """The content of `config.json`.

        Raises:
            ModelError: There is none, or it is no JSON.
        """
        config = self._read_json(CONFIG)
        if config is None:
            got = ", ".join(sorted(self.file_names)[:5]) or "nothing"
            raise ModelError(f"{self.title}: expected a model with {CONFIG}, got a folder with {got}")
        return config

    def read_processor(self) -> dict[str, Any] | None:
        """How the model's own processor prepares images; None if there is none.

        transformers 5 writes it into the file of all processors of a model; earlier ones wrote it alone.
        """
        for file in _PROCESSORS:
            content = self._read_json(file)
            if content is not None and isinstance(inner := content.get("image_processor"), dict):
                return inner
        return self._read_json(_PROCESSORS[1])

    def licence(self) -> str:
        """The licence that the model's card names; empty if it names none."""
        path = self.path / "README.md"
        match = _FRONT_MATTER.match(path.read_text(encoding="utf-8", errors="replace")) if path.is_file() else None
        card = try_call(lambda: yaml.safe_load(match[1])) if match else None
        licence = card.get("license") if isinstance(card, Mapping) else None
        return licence if isinstance(licence, str) else ""

    def weights_file(self) -> Path:
        """The weights as one file on this machine.

        Raises:
            ModelError: There are no safetensors, or a part is missing.
        """
        names = weight_file_names(self.file_names, self._read_json(INDEX), self.title)
        self.fetch(names)
        return join_weight_files([self.path / name for name in names], self.title)

    def _read_json(self, name: str) -> dict[str, Any] | None:
        path = self.path / name
        if not path.is_file():
            return None
        if path.stat().st_size > _MOST_JSON_BYTES:
            raise ModelError(f"{self.title}: {name} has {path.stat().st_size >> 20} MB, which is no description")
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:  # also of the encoding
            raise ModelError(f"{self.title}: {name} is no JSON: {' '.join(str(error).split())[:200]}") from None
        if not isinstance(content, dict):
            raise ModelError(f"{self.title}: expected an object in {name}, got {type(content).__name__}")
        return content


def find_model_folder(config: ModelConfig, *, fetch: bool, report: Report | None) -> ModelFolder:
    """Find the model of a job's entry, with everything but its weights.

    Args:
        config: `model: hf` with a folder as `checkpoint`, or `model: hf:NAME[@REVISION]`.
        fetch: Fetch what is missing from the hub.
        report: Called with what is waited for.

    Raises:
        ModelError: There is no such model, or it cannot be reached.
        UsageError: A package is missing.
    """
    if not config.checkpoint:
        from cvbatch.models.transformers.hub import find_on_hub  # a folder needs no client of the hub

        name, _, revision = config.model.removeprefix(f"{HUGGING_FACE}:").partition("@")
        return find_on_hub(name, revision or None, fetch=fetch, report=report)
    return find_local_folder(config.checkpoint, HUGGING_FACE)


def find_local_folder(given: str, prefix: str) -> ModelFolder:
    """Find a model in a folder on this machine.

    Args:
        given: Path of the folder.
        prefix: Of models of this kind in a job.

    Raises:
        ModelError: There is no such folder.
    """
    title = f"{prefix}:{redact_secrets(given)}"
    if is_object_uri(given) or "://" in given:
        raise ModelError(f"{title}: expected a folder on this machine, or a name of the hub: copy the model there")
    path = Path(given).expanduser()
    if not path.is_dir():
        what = "a file: name the folder that it is in" if path.is_file() else "missing"
        raise ModelError(f"{title}: expected a folder with a model, and it is {what}")
    names = [file.name for file in path.iterdir() if file.is_file()]
    return ModelFolder(title, path.resolve().name, path.resolve(), None, names, lambda _: None)
