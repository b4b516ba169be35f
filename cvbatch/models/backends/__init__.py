"""Kinds of models: which options of a job each understands, what it needs, and which module loads it.

A kind is one file and one row of `BACKENDS`; nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from cvbatch.errors import ModelError
from cvbatch.models.backends.advice import file_for_a_model, similar_names_hint
from cvbatch.models.backends.base import Backend
from cvbatch.models.backends.embedded import EMBEDDED
from cvbatch.models.backends.nanodet import NANODET
from cvbatch.models.backends.onnx import ONNX
from cvbatch.models.backends.program import PROGRAM
from cvbatch.models.backends.python import PYTHON
from cvbatch.models.backends.timm import TIMM
from cvbatch.models.backends.torchvision import TORCHVISION
from cvbatch.models.backends.trained import TrainedBackend
from cvbatch.models.backends.transformers import TRANSFORMERS
from cvbatch.models.spec import ModelSpec
from cvbatch.tasks.plugin_table import PluginTable

BACKENDS: Final = PluginTable[Backend](
    "cvbatch.backends",
    Backend,  # type: ignore[type-abstract]
    (
        EMBEDDED,
        NANODET,
        TORCHVISION,
        PYTHON,
        ONNX,
        TRANSFORMERS,
        TIMM,
        PROGRAM,
        TrainedBackend(lambda model: backend_for(model)),
    ),
)
"""All kinds of models, by the name that the plan stores."""


def backend_of(spec: ModelSpec) -> Backend:
    """The kind of a resolved model."""
    return BACKENDS[spec.kind]


def backend_for(model: str) -> Backend:
    """Return the kind of a model that a job names.

    Args:
        model: As in the job: a builder with or without its weights, or a prefix and a name.

    Raises:
        ModelError: No kind knows it.
    """
    for backend in BACKENDS.values():
        if backend.understands_model(model):
            return backend
    known = [name for backend in BACKENDS.values() for name in backend.model_names()]
    raise ModelError(
        file_for_a_model(model) or f"unknown model {model!r}{similar_names_hint(model.partition(':')[0], known)}"
    )


def is_setting_applicable(setting: str, models: Iterable[ModelSpec]) -> bool:
    """Whether a field of `InferenceSettings` affects any of these models."""
    return any(setting in backend_of(model).applicable_settings(model) for model in models)
