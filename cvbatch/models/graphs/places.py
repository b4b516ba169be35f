"""Where the file of a graph is, on a disk or in a bucket, and what lies beside it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from cvbatch.config.job import ModelConfig
from cvbatch.errors import DeniedError, ModelError, TooLargeError
from cvbatch.models.graphs.keys import GraphKeys, parse_key_file
from cvbatch.storage.location import Location, is_object_uri, redact_secrets

_MOST_KEY_BYTES: Final = 4 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class FileKind:
    """What messages say of a kind of file."""

    prefix: str
    """Of models in a job."""
    noun: str
    """Such as `an ONNX file`."""
    most_bytes: int
    """Of an object in a bucket."""


class ModelPlace(Protocol):
    """The file of a model, and those beside it."""

    name: str
    """Of the file."""
    spec_path: str
    """What a spec stores: the path, or the URI of an object."""

    def model_path(self) -> Path:
        """The file on this machine.

        Raises:
            ModelError: There is none.
        """

    def data_path(self, name: str) -> Path:
        """A file beside it on this machine.

        Raises:
            FileNotFoundError: There is none.
        """

    def read_text(self, name: str) -> str | None:
        """The text of a small file beside it; None if there is none."""


def find_place(config: ModelConfig, kind: FileKind) -> ModelPlace:
    """Find the place of a model whose `checkpoint` is a path or the URI of an object.

    Raises:
        ModelError: It is a URI of something else.
    """
    given = str(config.checkpoint)
    if is_object_uri(given):
        return _Bucket(Location.from_uri(given, config.storage_options), kind)
    return _Folder(given, kind)


def read_keys_beside(place: ModelPlace) -> GraphKeys:
    """The keys of the YAML file beside a model; none if there is no such file.

    Raises:
        ModelError: It is not YAML, or a key is wrong.
    """
    name = f"{Path(place.name).stem}.yaml"
    text = place.read_text(name)
    return GraphKeys() if text is None else parse_key_file(text, name)


class _Folder:
    """A model on a disk."""

    def __init__(self, given: str, kind: FileKind) -> None:
        self._path, self._kind = Path(given).expanduser(), kind
        self.name = self._path.name
        self.spec_path = str(self._path.resolve())
        if "://" in given:
            raise ModelError(
                f"{redact_secrets(given)}: expected a file on this machine or in a bucket: copy the model there"
            )

    def model_path(self) -> Path:
        if not self._path.is_file():
            what = "a folder, not a file" if self._path.is_dir() else "missing"
            raise ModelError(f"{self._kind.prefix}:{self._path}: expected {self._kind.noun}, and it is {what}")
        return self._path

    def data_path(self, name: str) -> Path:
        path = self._path.parent / name
        if not path.is_file():
            raise FileNotFoundError(str(self._path.parent))
        return path

    def read_text(self, name: str) -> str | None:
        path = self._path.parent / name
        return path.read_text(encoding="utf-8") if path.is_file() else None


class _Bucket:
    """A model in an object store."""

    def __init__(self, location: Location, kind: FileKind) -> None:
        self._location, self._kind = location, kind
        self.spec_path = location.uri
        self._folder, _, self.name = location.uri.rpartition("/")

    def model_path(self) -> Path:
        try:
            return self._fetch(self._location)
        except FileNotFoundError:
            raise ModelError(f"{self._kind.prefix}:{self._location}: there is no such object") from None

    def data_path(self, name: str) -> Path:
        try:
            return self._fetch(self._beside(name))
        except FileNotFoundError:
            raise FileNotFoundError(self._folder) from None

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
            return fetch_newest(location, self._kind.most_bytes)[0]
        except TooLargeError as error:
            raise ModelError(f"{self._kind.prefix}:{location}: {error}") from None
