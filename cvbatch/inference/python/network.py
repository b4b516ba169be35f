"""Run models of the `python:` protocol: the loader of `cvbatch.models.backends.python`."""

from __future__ import annotations

from collections.abc import Hashable, Sequence, Sized
from typing import Any

from cvbatch.inference.network import Answers
from cvbatch.inference.python import loading
from cvbatch.inference.python.protocol import Image, Model, Size
from cvbatch.inference.settings import InferenceSettings
from cvbatch.models.spec import ModelSpec
from cvbatch.tasks import TASKS, output_checks


def load_network(spec: ModelSpec, *, device: str, setting: InferenceSettings) -> PythonNetwork:
    """Call the factory of a spec; see `loading.load_network`."""
    return PythonNetwork(loading.load_python_model(spec))


def complete_spec(spec: ModelSpec) -> ModelSpec:
    """See `loading.probe_model`."""
    return loading.complete_spec(spec, loading.load_python_model(spec))


class PythonNetwork:
    """A `python:` model behind the interface of all networks.

    Args:
        model: What the factory returned.
    """

    parallel = False

    def __init__(self, model: Model) -> None:
        self._model = model

    def use_threads(self, count: int) -> None:
        """How many threads it takes is the model's own affair, too."""

    def batch_key(self, image: Image) -> Hashable:
        """All images share: how to batch them is the model's own affair."""
        return None

    def run_batch(self, images: Sequence[Image], sizes: Sequence[Size], specs: Sequence[ModelSpec]) -> Answers:
        """See `Network.run`; an answer that cannot be one is an error in its place.

        Raises:
            ImageError: The model's answers are not one for each image, or it would end the process.
        """
        try:
            found = self._model.predict(images, sizes)
        except SystemExit as error:  # would end the process, and the rows would not say why
            raise output_checks.invalid_output_error(specs[0], f"predict called sys.exit({error.code!r})") from None
        return {spec.alias: self._to_task_answers(spec, found, sizes) for spec in specs}

    def _to_task_answers(self, spec: ModelSpec, found: Any, sizes: Sequence[Size]) -> Sequence[Any]:
        listed = isinstance(found, Sized) and hasattr(found, "__getitem__") and not isinstance(found, dict | str)
        if not listed:
            what = f"a list or an array with an answer for each of {len(sizes)} images"
            raise output_checks.invalid_output_error(spec, f"expected {what}, got {output_checks.shorten_repr(found)}")
        if len(found) != len(sizes):
            raise output_checks.invalid_output_error(spec, f"expected {len(sizes)} answers, got {len(found)}")
        logits = bool(getattr(self._model, "logits", False))
        return TASKS[spec.task].parse_answers(spec, found, sizes, logits=logits)
