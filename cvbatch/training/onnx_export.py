"""`cvbatch train … --export onnx`: the result as an ONNX file that `cvbatch run` takes, proven to answer the same."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import yaml

from cvbatch.config.job import Job, ModelConfig
from cvbatch.config.model_files import ONNX
from cvbatch.errors import OutputError, UsageError
from cvbatch.images.arrow_pixels import unpack_images
from cvbatch.images.preprocess import Size, View
from cvbatch.inference.loading import load_network, probe_model
from cvbatch.inference.settings import REFERENCE
from cvbatch.models.resolve import resolve_models
from cvbatch.models.spec import ModelSpec
from cvbatch.output.store import Store
from cvbatch.results.committed import OpenedOutput, Output, Storage
from cvbatch.results.planned_images import PlannedImages
from cvbatch.schema import HEIGHT, WIDTH, pixels_column
from cvbatch.stages.decode import DecodeOptions, fetch_and_decode
from cvbatch.system.control_group import usable_cores
from cvbatch.system.extras import import_extra
from cvbatch.tasks import CLASSIFICATION
from cvbatch.training.log import TrainingLog
from cvbatch.training.plan import TrainingPlan
from cvbatch.training.result import write_result
from cvbatch.training.status import open_training
from cvbatch.training.validation_run import label_validation, place_of_store, trained_spec

GRAPH_FILE: Final = "model.onnx"
KEYS_FILE: Final = "model.yaml"
MOST_DIFFERENCE: Final = 1e-3
"""Of a score; a graph that differs more is not written."""
MOST_IMAGES: Final = 64
_UNIT_ROWS: Final = 16
_EXPORTED: Final = (CLASSIFICATION.name,)
"""Tasks whose networks can be exported."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OnnxExport:
    """An ONNX file, and how well it answers."""

    path: str
    """What follows `onnx:` in `cvbatch run --model`."""
    images: int
    """Validation images that both have answered."""
    difference: float
    """Greatest difference of a score."""
    same_labels: int
    """Images of which both say the same."""
    bytes: int

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def export_to_onnx(
    output: Output, *, storage: Storage = None, report: Callable[[str], None] = lambda phrase: None
) -> OnnxExport:
    """Write the result of a finished training as an ONNX file, with a YAML file of the same name that `onnx:` reads.

    Both models answer up to 64 validation images before anything is written.

    Args:
        output: The output of `cvbatch train`.
        storage: Options for an object store.
        report: Receives phrases about the progress.

    Raises:
        OutputError: If there is no finished training.
        UsageError: If the network cannot be exported, a package is missing, or the answers differ by more than 0.001.
    """
    store, plan = open_training(output, storage)
    state = TrainingLog(store).state
    check_exportable(plan.start.task)
    if not state.is_final:
        raise OutputError(f"{store.root}: expected a finished training to export; the same cvbatch train goes on")
    write_result(store, plan, state)
    report("exporting to ONNX")
    spec = trained_spec(place_of_store(store))
    opened = label_validation(store, plan, state.best or {}, report)
    with tempfile.TemporaryDirectory(prefix="cvbatch-onnx-") as folder:
        content, keys = _write_files(Path(folder), spec, plan)
        graph = _resolve_graph(Path(folder), spec)
        report("comparing the answers of ONNX")
        export = _compare_answers(store, spec, graph, opened, len(content))
    refuse_difference(plan.start.name, export)
    store.put_object(GRAPH_FILE, content)
    store.put_object(KEYS_FILE, keys)
    return export


def refuse_difference(name: str, export: OnnxExport) -> None:
    """Refuse a graph that answers otherwise than its network.

    Args:
        name: Of the network.
        export: How well the graph answers.

    Raises:
        UsageError: If a score differs by more than 0.001, or no image could be compared.
    """
    if not export.images:
        raise UsageError(f"{name} as ONNX: expected validation images to compare with, but none can be read any more")
    if export.difference > MOST_DIFFERENCE:
        raise UsageError(
            f"{name} as ONNX: expected scores that differ by at most {MOST_DIFFERENCE:g} from those of torch, got "
            f"{export.difference:.2g} on {export.images} validation images; nothing was written"
        )


def check_exportable(task: str) -> None:
    """Check before a training that its result can be exported.

    Raises:
        UsageError: If it cannot, or a package is missing.
    """
    if task not in _EXPORTED:
        raise UsageError(f"--export onnx: expected a model of {', '.join(_EXPORTED)}, got one of {task}")
    for module in ("onnx", "onnxruntime", "onnxscript"):
        import_extra(module, "onnx", "--export onnx")


def _write_files(folder: Path, spec: ModelSpec, plan: TrainingPlan) -> tuple[bytes, bytes]:
    from cvbatch.training.torch.onnx_graph import export_graph  # the only import of torch here

    exported = export_graph(spec)
    keys = {
        "task": spec.task,
        "categories": list(plan.categories),
        "licence": spec.licence or None,
        "scale": 255.0,
        "mean": [float(value) for value in exported.mean],
        "std": [float(value) for value in exported.std],
        "channels": "rgb",
        "layout": "nchw",
        "scores": "logits",
        **_view_keys(spec.view),
    }
    text = yaml.safe_dump({key: value for key, value in keys.items() if value is not None}, sort_keys=False)
    (folder / GRAPH_FILE).write_bytes(exported.content)
    (folder / KEYS_FILE).write_text(text, encoding="utf-8")
    return exported.content, text.encode()


def _view_keys(view: View) -> dict[str, Any]:
    assert view.crop is not None, "networks of classification see a crop"
    return {"fit": "crop", "resize": view.resize, "size": list(view.crop), "interpolation": view.interpolation}


def _resolve_graph(folder: Path, spec: ModelSpec) -> ModelSpec:
    """The exported model as a run would see it.

    Raises:
        UsageError: If it would see other images or other classes.
    """
    (graph,) = resolve_models((_graph_config(folder, spec),))
    graph = probe_model(graph)
    if (graph.view, tuple(graph.categories)) != (spec.view, tuple(spec.categories)):
        raise UsageError(f"{spec.name}: its way to prepare images cannot be said in {KEYS_FILE}: {spec.view}")
    return graph


def _graph_config(folder: Path, spec: ModelSpec) -> ModelConfig:
    return ModelConfig.model_validate(
        {"model": ONNX, "checkpoint": str(folder / GRAPH_FILE), "alias": spec.alias, "task": spec.task}
    )


def _compare_answers(store: Store, spec: ModelSpec, graph: ModelSpec, opened: OpenedOutput, size: int) -> OnnxExport:
    networks = [(one, load_network(one, device="cpu", setting=REFERENCE)) for one in (spec, graph)]
    images, same, difference = 0, 0, 0.0
    for pixels, sizes in _iter_pixels(opened, spec.view):
        first, second = (np.array(network.run_batch(pixels, sizes, [one])[one.alias]) for one, network in networks)
        difference = max(difference, float(np.abs(first - second).max()))
        same += int((first.argmax(1) == second.argmax(1)).sum())
        images += len(pixels)
    path = f"{store.root.rstrip('/')}/{GRAPH_FILE}"
    return OnnxExport(path=path, images=images, difference=difference, same_labels=same, bytes=size)


def _iter_pixels(opened: OpenedOutput, view: View) -> Iterator[tuple[list[Any], list[Size]]]:
    """Pixels of the first validation images, and their sizes (width, height)."""
    source = Job.model_validate(opened.plan.job).source
    options = replace(DecodeOptions.of_source(source, [view]), threads=usable_cores())
    row_ids = np.arange(min(opened.plan.rows, MOST_IMAGES))
    for rows in PlannedImages(opened).iter_rows(row_ids, batch_rows=_UNIT_ROWS):
        decoded = fetch_and_decode(rows, options)
        sizes = list(zip(decoded[WIDTH].to_pylist(), decoded[HEIGHT].to_pylist(), strict=True))
        pairs = [
            (image, size)
            for image, size in zip(unpack_images(decoded[pixels_column(0)]), sizes, strict=True)
            if image is not None
        ]
        if pairs:
            yield [image for image, _ in pairs], [size for _, size in pairs]
