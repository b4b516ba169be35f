"""The folder that `cvbatch train` writes: the description of a model beside its weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from cvbatch.config.model_files import TRAINED_FILE
from cvbatch.errors import CorruptionError, ModelError, TooLargeError
from cvbatch.images.preprocess import View
from cvbatch.storage.location import Location
from cvbatch.system.formats import RecordFormat

_MAX_BYTES: Final = 64 << 20


@dataclass(frozen=True, kw_only=True)
class TrainedModel:
    """What a run needs to know of a trained model."""

    model: str
    """The network, as in a job."""
    task: str
    categories: tuple[str | None, ...]
    """Name of each label id."""
    view: View
    """How images must look when they reach the network."""
    weights: str
    """File of the weights beside this description."""
    sha256: str
    """Of this file."""
    licence: str = ""
    """Of the weights that the training started with."""
    scores: Mapping[str, float | None] = field(default_factory=dict)
    """Metrics of the validation images."""
    trained_on: str = ""
    """The sha256 of the data."""
    start: Mapping[str, Any] = field(default_factory=dict)
    """The model with the weights that the training started with."""


TRAINED_MODEL: Final = RecordFormat("description of a trained model", TrainedModel)


def read_trained_model(folder: Location) -> TrainedModel:
    """Read the description in a folder.

    Raises:
        ModelError: If there is none, or it is no description of a model.
        OutputError: If a newer version wrote it.
    """
    try:
        return TRAINED_MODEL.decode_record(_read_description(folder), f"{folder}/{TRAINED_FILE}")
    except (FileNotFoundError, NotADirectoryError):
        raise ModelError(
            f"{folder}: expected a folder that cvbatch train has finished, with {TRAINED_FILE}; got none; give the "
            "output of a training, or the name of a model"
        ) from None
    except (CorruptionError, TooLargeError, UnicodeDecodeError) as error:
        raise ModelError(f"{folder}/{TRAINED_FILE}: expected the description of a trained model; {error}") from None


def _read_description(folder: Location) -> bytes:
    if folder.is_local:
        return Path(folder.uri, TRAINED_FILE).read_bytes()
    from cvbatch.storage.buckets import open_bucket  # a local folder needs no object store client

    key = f"{folder.key.rstrip('/')}/{TRAINED_FILE}".lstrip("/")
    return open_bucket(folder).get_object(key, _MAX_BYTES).data
