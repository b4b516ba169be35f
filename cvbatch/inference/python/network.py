"""Run models of the `python:` protocol; the loader of `cvbatch.models.backends.python`."""

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
    """Adapter from a `python:` model to the interface of all networks.

    Args:
        model: The object that the factory returned.
    """

    parallel = False

    def __init__(self, model: Model) -> None:
        self._model = model

    def use_threads(self, count: int) -> None:
        """Do nothing: the model decides for itself how many threads it uses."""

    def batch_key(self, image: Image) -> Hashable:
        """One key for all images: the model decides for itself how to batch them."""
        return None

    def run_batch(self, images: Sequence[Image], sizes: Sequence[Size], specs: Sequence[ModelSpec]) -> Answers:
        """See `ForwardPass.run_batch`; an invalid answer becomes a `RowError`.

        Raises:
            ImageError: The number of answers is wrong, or the model calls `sys.exit`.
        """
        try:
            outputs = self._model.predict(images, sizes)
        except SystemExit as error:  # would end the process without an error in the rows
            raise output_checks.invalid_output_error(specs[0], f"predict called sys.exit({error.code!r})") from None
        return {spec.alias: self._to_task_answers(spec, outputs, sizes) for spec in specs}

    def _to_task_answers(self, spec: ModelSpec, outputs: Any, sizes: Sequence[Size]) -> Sequence[Any]:
        is_sequence = (
            isinstance(outputs, Sized) and hasattr(outputs, "__getitem__") and not isinstance(outputs, dict | str)
        )
        if not is_sequence:
            expected = f"a list or an array with an answer for each of {len(sizes)} images"
            raise output_checks.invalid_output_error(
                spec, f"expected {expected}, got {output_checks.shorten_repr(outputs)}"
            )
        if len(outputs) != len(sizes):
            raise output_checks.invalid_output_error(spec, f"expected {len(sizes)} answers, got {len(outputs)}")
        logits = bool(getattr(self._model, "logits", False))
        return TASKS[spec.task].parse_answers(spec, outputs, sizes, logits=logits)
