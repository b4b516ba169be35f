"""Tools to test your own models: generated images, seeded weights, checks of the protocol and of kinds of models."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from cvbatch.demo.shapes import SHAPES as SHAPES
from cvbatch.demo.shapes import ShapeSet as ShapeSet
from cvbatch.demo.shapes import generate_shapes as generate_shapes
from cvbatch.errors import ImageError, RowError
from cvbatch.images.preprocess import View, apply_view
from cvbatch.images.tile_pixels import pixels_in_view
from cvbatch.inference.predictor import Predictor, probe_model
from cvbatch.inference.python import loading
from cvbatch.inference.python import network as python_network
from cvbatch.inference.python.protocol import Model
from cvbatch.inference.settings import InferenceSettings
from cvbatch.models import catalog
from cvbatch.models.backends import backend_of
from cvbatch.models.backends.python import PYTHON
from cvbatch.models.backends.torchvision import TORCHVISION
from cvbatch.models.spec import ModelSpec
from cvbatch.tasks import CLASSIFICATION, TASKS

SIZES = ((320, 240), (240, 320), (500, 375), (200, 200), (333, 417), (320, 240), (97, 130), (320, 240))
"""(width, height) of images of mixed sizes, some of them equal."""
_SHAPES = 12
_MIN_LABELS = 5
_MIN_CLASSES = 5
_MIN_SEVERAL_CLASSES = 3
"""The minimum for tasks with several labels per image."""


def generate_image(width: int, height: int, *, seed: int = 0) -> Image.Image:
    """Generate an RGB image with gradients, shapes, texture and noise; the same for the same arguments.

    Args:
        width: Width in pixels.
        height: Height in pixels.
        seed: Different seeds give different images.
    """
    random = np.random.default_rng([seed, width, height])
    corners = random.integers(0, 256, (2, 2, 3), dtype=np.uint8)
    image = Image.fromarray(corners).resize((width, height), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image)
    for number in range(_SHAPES):
        x, y = random.integers(-width // 8, width), random.integers(-height // 8, height)
        box = (int(x), int(y), int(x + random.integers(8, width)), int(y + random.integers(8, height)))
        colour = tuple(int(value) for value in random.integers(0, 256, 3))
        (draw.ellipse if number % 2 else draw.rectangle)(box, fill=colour, outline=colour[::-1], width=3)
    pixels = np.asarray(image, dtype=np.int16)
    waves = 20 * np.sin(np.arange(width) * random.uniform(0.1, 1.5)) * np.ones((height, 1))
    noise = random.normal(0, 8, pixels.shape) + waves[..., None]
    return Image.fromarray(np.clip(pixels + noise, 0, 255).astype(np.uint8))


def generate_images(sizes: Sequence[tuple[int, int]] = SIZES, *, seed: int = 0) -> list[Image.Image]:
    """Generate one image of each size; see `generate_image`."""
    return [generate_image(*size, seed=seed + number) for number, size in enumerate(sizes)]


def seeded_checkpoint(builder: str, folder: Path | str, *, seed: int = 0) -> dict[str, Any]:
    """Make weights for a torchvision builder whose answers vary from image to image.

    Args:
        builder: A torchvision builder, such as `resnet18` or `ssdlite320_mobilenet_v3_large`.
        folder: Folder for the state dict, a file `BUILDER-SEED.pth`.
        seed: The same seed gives the same weights.

    Returns:
        An entry for `models:` of a job: model, checkpoint and categories (those of the builder's default weights).

    Raises:
        AssertionError: For eight generated images, the network emits labels of fewer than 5 classes; or fewer than 5
            boxes or segments, or those of fewer than 3 classes.
    """
    import torch

    from cvbatch.inference.torch.seeding import seeded_network

    entry = catalog.catalog_entries()[builder]
    names = catalog.category_set(entry.weights[entry.default].categories)
    images = generate_images([(256, 256)] * 8, seed=seed)
    network = seeded_network(builder, len(names), images, seed)
    path = Path(folder) / f"{builder}-{seed}.pth"
    torch.save(network.state_dict(), path)
    spec = ModelSpec(
        alias="seeded",
        task=entry.tasks[0],
        kind=TORCHVISION.name,
        name=builder,
        view=entry.view_for_task(entry.default, entry.tasks[0]),
        weights_path=str(path),
        categories=names,
        top_k=1,
    )
    _assert_varied(spec, predict([spec], images))
    categories = [name or ("__background__" if label_id == 0 else "N/A") for label_id, name in enumerate(names)]
    return {"model": builder, "checkpoint": str(path), "categories": categories}


def predict(specs: Sequence[ModelSpec], images: Sequence[Image.Image], **options: Any) -> dict[str, list[Any]]:
    """Run models on images, without a job.

    Args:
        specs: Complete specs.
        images: RGB images.
        options: Arguments of `Predictor`.

    Returns:
        The columns as Python lists.

    Raises:
        AssertionError: An image has an error.
    """
    views = {spec.view: [pixels_in_view(spec.view, image) for image in images] for spec in specs}
    predictions = Predictor(specs, **options).predict_views(views, [image.size for image in images])
    errors = [error for error in predictions.errors if error]
    assert not errors, errors
    return {name: column.to_pylist() for name, column in predictions.columns.items()}


def check_model(factory: Callable[..., Model], options: Mapping[str, Any] | None = None) -> None:
    """Check that a factory returns a model that follows the `python:` protocol.

    Args:
        factory: The factory that a job names.
        options: Keyword arguments of the factory.

    Raises:
        ModelError: Its attributes contradict the protocol.
        AssertionError: Its answers contradict the protocol, are not finite or out of range, or depend on which images
            share a call.
    """
    model = factory(**(options or {}))
    name = f"{factory.__module__}:{factory.__qualname__}"
    empty = ModelSpec(alias="checked", task=CLASSIFICATION.name, kind=PYTHON.name, name=name, view=View())
    spec = loading.complete_spec(empty, model)
    images = generate_images(SIZES[:4])
    pixels, sizes = [apply_view(spec.view, image) for image in images], [image.size for image in images]
    network = python_network.PythonNetwork(model)
    together = _network_answers(network, spec, pixels, sizes)
    for index, image_pixels in enumerate(pixels):
        (alone,) = _network_answers(network, spec, [image_pixels], [sizes[index]])
        assert _are_equal_answers(alone, together[index]), (
            f"{name}: image {index} gives another answer when it shares a call"
        )


def check_spec(spec: ModelSpec) -> ModelSpec:
    """Check that a resolved model of any kind does what runs expect of it; see `cvbatch.models.resolve`.

    Args:
        spec: As `resolve_models` returns it; of one of our kinds, or of one of your own package.

    Returns:
        The spec, completed by loading the model.

    Raises:
        ModelError: It cannot be loaded.
        AssertionError: It is not the same after it was stored, loading it changes what is compared between two
            attempts, a setting or column is not known, or its answers are invalid or depend on which images share a
            call.
    """
    backend = backend_of(spec)
    complete = probe_model(spec)
    stored = json.loads(json.dumps(complete.to_json()))
    assert ModelSpec.from_json(stored) == complete, f"{spec.name}: another model comes back from the plan"
    before, after = (backend.known_before_probe(spec, model.to_json()) for model in (spec, complete))
    assert before == after, f"{spec.name}: known_before_probe has what is known only after loading"
    unknown = backend.applicable_settings(complete) - {field.name for field in fields(InferenceSettings)}
    assert not unknown, f"{spec.name}: there are no settings {', '.join(sorted(unknown))}"
    images = generate_images(SIZES[:4])
    together = predict([complete], images)
    assert together.keys() == {column.name for column in complete.column_fields()}, f"{spec.name}: other columns"
    for index, image in enumerate(images):
        alone = predict([complete], [image])
        same = all(_are_close(alone[name][0], together[name][index]) for name in together)
        assert same, f"{spec.name}: image {index} gives another answer when it shares a call"
    return complete


def _are_close(first: Any, second: Any) -> bool:
    """Whether two values of a column are equal, up to the last digits of numbers."""
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(map(_are_close, first, second))
    if isinstance(first, float) and isinstance(second, float):
        return math.isclose(first, second, rel_tol=1e-3, abs_tol=1e-3)
    return bool(first == second)


def _network_answers(
    network: python_network.PythonNetwork, spec: ModelSpec, pixels: Sequence[Any], sizes: Sequence[tuple[int, int]]
) -> Sequence[Any]:
    try:
        answers = TASKS[spec.task].check_answers(spec, network.run_batch(pixels, sizes, [spec])[spec.alias])
    except ImageError as error:
        raise AssertionError(f"{spec.name}: {error}") from None
    for index, answer in enumerate(answers):
        assert not isinstance(answer, RowError), f"{spec.name}: image {index}: {answer.type}: {answer.message}"
    return answers


def _are_equal_answers(first: Any, second: Any) -> bool:
    if isinstance(first, np.ndarray):
        return bool(np.allclose(first, second, rtol=1e-4, atol=1e-5))
    if isinstance(first, list | tuple | bytes) or first is None:
        return bool(first == second)
    return all(_are_equal_answers(getattr(first, name), getattr(second, name)) for name in first.__slots__)


def _assert_varied(spec: ModelSpec, columns: Mapping[str, list[Any]]) -> None:
    labels = columns[f"{spec.alias}_{TASKS[spec.task].label_column}"]
    several = isinstance(labels[0], list)  # a list of labels for each image, or a single one
    emitted = [label for answer in labels for label in answer] if several else labels
    named = sum(name is not None for name in spec.categories)
    min_classes = min(_MIN_SEVERAL_CLASSES, named) if several else _MIN_CLASSES
    assert len(emitted) >= _MIN_LABELS, f"{spec.name}: the network emits only {len(emitted)} labels"
    assert len(set(emitted)) >= min_classes, f"{spec.name}: the network emits only the labels {set(emitted)}"
