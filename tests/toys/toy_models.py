"""A task and a kind of model from another package, without torch: how bright is an image?

The entry points beside this file make both known to every process that has this folder on its path.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cvbatch.config.job import ModelConfig
from cvbatch.errors import ImageError, ModelError
from cvbatch.images.preprocess import Size, View
from cvbatch.inference.network import Answers, Image
from cvbatch.inference.settings import InferenceSettings
from cvbatch.models.backends.base import Backend
from cvbatch.models.spec import ModelSpec
from cvbatch.tasks import TASKS
from cvbatch.tasks.base import Agreement, BatchSizes, Columns, ModelFacts, Task
from cvbatch.tasks.output_checks import to_number_rows

PREFIX = "toy:"
TOLERANCE = 5.0
VIEW = View(resize=8)


class Brightness(Task):
    """An answer is a number from 0 to 255."""

    name = "brightness"
    batch_sizes = BatchSizes(cpu=4, cuda=4)
    has_labels = False
    label_column = "word"

    def column_types(self, model: ModelFacts) -> dict[str, pa.DataType]:
        return {"value": pa.float32(), "word": pa.string()}

    def to_columns(self, model: ModelFacts, answers: Sequence[Any]) -> dict[str, pa.Array]:
        words = ["bright" if value > 127 else "dark" for value in answers]
        return {"word": pa.array(words), "value": pa.array(answers, pa.float64())}  # in any order, and of a near type

    def take_answers(self, outputs: Any, model: ModelFacts) -> Sequence[Any]:
        means: Sequence[float] = outputs.means
        return means

    def parse_answers(self, model: ModelFacts, raw: Any, sizes: Sequence[Size], *, logits: bool) -> Sequence[Any]:
        return [float(row[0]) for row in to_number_rows(model, "brightness", raw, (len(sizes), 1))]

    def compare_columns(self, reference: Columns, other: Columns, sizes: Sequence[Size]) -> Agreement:
        one, two = (columns["value"].to_numpy(zero_copy_only=False) for columns in (reference, other))
        largest = float(np.nanmax(np.abs(one - two)))  # null where an image failed
        return {"largest_difference": largest}, largest <= TOLERANCE


@dataclass
class Outputs:
    means: list[float]


class Network:
    parallel = True

    def use_threads(self, count: int) -> None:
        pass

    def batch_key(self, image: Image) -> Hashable:
        return None

    def run_batch(self, images: Sequence[Image], sizes: Sequence[Size], specs: Sequence[ModelSpec]) -> Answers:
        if (66, 66) in sizes:
            raise ImageError("OutOfLuck", "no image of this size")
        outputs = Outputs([float(image.mean()) for image in images])
        return {spec.alias: TASKS[spec.task].take_answers(outputs, spec) for spec in specs}


class Toy(Backend):
    """Models named `toy:mean`."""

    name = "toy"
    loader = "toy_models"

    def understands_model(self, model: str) -> bool:
        return model.startswith(PREFIX)

    def resolve_model(self, config: ModelConfig, *, fetch: bool, folder: str | None, report: Any = None) -> ModelSpec:
        name = config.model.removeprefix(PREFIX)
        if name != "mean":
            raise ModelError(f"unknown model {config.model!r}: did you mean toy:mean?")
        task = Brightness.name
        return ModelSpec(alias=config.alias or task, task=task, kind=self.name, name=name, view=VIEW)

    def needs_probe(self, spec: ModelSpec) -> bool:
        return not spec.licence

    def known_before_probe(self, spec: ModelSpec, data: Any) -> dict[str, Any]:
        return {key: value for key, value in data.items() if key != "licence"}

    def applicable_settings(self, spec: ModelSpec) -> frozenset[str]:
        return frozenset({"batch_factor"})


def load_network(spec: ModelSpec, *, device: str, setting: InferenceSettings) -> Network:
    return Network()


def complete_spec(spec: ModelSpec) -> ModelSpec:
    return replace(spec, licence="toy")


class Own:
    """The same task by the protocol of `python:` models."""

    task = Brightness.name
    view = VIEW
    categories = ()

    def predict(self, images: Sequence[Image], sizes: Sequence[Size]) -> npt.NDArray[np.float64]:
        return np.array([[image.mean() / 2] for image in images])
