"""The table of models, and that it says what the installed torchvision says."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torchvision

from cvbatch.images.preprocess import View
from cvbatch.inference.torch import generate
from cvbatch.models import catalog
from cvbatch.models.backends.embedded import EMBEDDED, LITE0
from cvbatch.tasks import DEPTH, TASKS


@pytest.mark.slow
def test_the_files_are_those_that_this_torchvision_gives() -> None:
    """Equal for the version they were made from; otherwise nothing that both have may differ."""
    generated, categories = generate.generate_catalog()
    rows, sets = generate.read_catalog()
    if rows["torchvision"] == generated["torchvision"]:
        assert rows == generated
        assert sets == categories
    for name in rows["models"].keys() & generated["models"].keys():
        ours, theirs = (each["models"][name]["weights"] for each in (rows, generated))
        for weights in ours.keys() & theirs.keys():
            assert ours[weights] == theirs[weights], f"{name}:{weights} in torchvision {torchvision.__version__}"


def test_every_task_has_models_and_every_row_its_categories() -> None:
    entries = catalog.catalog_entries()
    assert {task for entry in entries.values() for task in entry.tasks} == set(TASKS) - {DEPTH.name}
    assert len(entries) > 90
    for entry in entries.values():
        assert entry.default in entry.weights
        assert ("embedding" in entry.tasks) == (entry.dimension is not None)
        for weights in entry.weights.values():
            assert len(catalog.category_set(weights.categories)) > 1
            assert weights.file_name.endswith(".pth")


@pytest.mark.parametrize(
    ("name", "length", "none"),
    [("imagenet-1k", 1000, 0), ("coco-91", 91, 11), ("coco-80", 80, 0), ("voc-21", 21, 1), ("coco-person", 2, 1)],
)
def test_categories_leave_out_what_is_never_emitted(name: str, length: int, none: int) -> None:
    names = catalog.category_set(name)
    assert len(names) == length
    assert names.count(None) == none
    assert not {"__background__", "N/A", "no person"}.intersection(names)


def test_a_view_is_that_of_the_weights_and_the_task() -> None:
    resnet, lite = catalog.catalog_entries()["resnet50"], EMBEDDED.catalog_entries()[LITE0]
    assert resnet.view_for_task("IMAGENET1K_V1", "classification") == View(resize=256, crop=(224, 224))
    assert resnet.view_for_task("IMAGENET1K_V2", "embedding") == View(resize=232, crop=(224, 224))
    assert lite.view_for_task(lite.default, "classification") == View(
        resize=256, crop=(224, 224), interpolation="bicubic"
    )
    assert lite.view_for_task(lite.default, "segmentation") == View(resize=384, interpolation="bicubic")
    assert lite.gflops_for_task(lite.default, "detection") > lite.gflops_for_task(lite.default, "embedding")


def test_resolving_and_listing_import_no_torch() -> None:
    code = (
        "import sys; from cvbatch.models import resolve; from cvbatch.config.job import ModelConfig;"
        "resolve.list_models(); resolve.resolve_models([ModelConfig(model='efficientnet_lite0')]);"
        "sys.exit('torch' in sys.modules or 'ray' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
