"""What rests on private and undocumented behaviour of torchvision, held against the one that is installed."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Mapping
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision import models as zoo

from cvbatch.inference.torch import torchvision_compat
from cvbatch.inference.torch.torchvision_compat import states_from, weights_facts
from cvbatch.inference.torch.torchvision_models import OnMetaDevice, construct_builder

MEMBER = zoo.SqueezeNet1_1_Weights.IMAGENET1K_V1
SECONDS = 30


def state(number: float) -> dict[str, Tensor]:
    return {"weight": torch.tensor(number)}


def taken() -> float:
    return float(MEMBER.get_state_dict(progress=False, check_hash=True)["weight"])


def test_builders_take_their_weights_by_the_function_that_is_replaced() -> None:
    given = construct_builder("squeezenet1_1", num_classes=1000).state_dict()
    with states_from(lambda: given):
        network = zoo.get_model("squeezenet1_1", weights=MEMBER, progress=False)
    assert all(torch.equal(value, given[key]) for key, value in network.state_dict().items())


def test_it_is_torchvisions_own_function_again_even_after_an_error() -> None:
    original = zoo.WeightsEnum.get_state_dict
    assert original.__module__.startswith("torchvision")
    with pytest.raises(KeyError), states_from(partial(state, 1)):
        raise KeyError
    assert zoo.WeightsEnum.get_state_dict is original


def test_another_thread_gets_torchvisions_own_function(monkeypatch: pytest.MonkeyPatch) -> None:
    def theirs(self: zoo.WeightsEnum, *args: Any, **kwargs: Any) -> Mapping[str, Tensor]:
        return state(-1)

    monkeypatch.setattr(zoo.WeightsEnum, "get_state_dict", theirs)
    answers = list[float]()
    with states_from(partial(state, 1)):
        other = threading.Thread(target=lambda: answers.append(taken()))
        other.start()
        other.join(SECONDS)
        answers.append(taken())
    assert answers == [-1, 1]


def test_threads_that_load_at_once_get_each_its_own_weights() -> None:
    answers, together = dict[int, float](), threading.Barrier(4)

    def load(number: int) -> None:
        together.wait(SECONDS)
        for _ in range(50):
            with states_from(partial(state, number)):
                answers[number] = taken()
                assert answers[number] == number

    threads = [threading.Thread(target=load, args=[number]) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    assert answers == {number: number for number in range(4)}


def test_all_weights_have_their_facts() -> None:
    members = [member for name in zoo.list_models(module=zoo) for member in zoo.get_model_weights(name)]
    facts = [weights_facts(member.meta) for member in members]
    assert len(facts) > 50
    assert all(each["megabytes"] > 1 and each["gflops"] >= 0 and each["metrics"] for each in facts)


@pytest.fixture(scope="module")
def detectors() -> dict[str, Any]:
    """Every detector of torchvision, without memory for its parameters."""
    with OnMetaDevice():
        return {name: construct_builder(name, num_classes=91) for name in zoo.list_models(module=zoo.detection)}


def test_detectors_resize_by_the_transform_that_is_replaced(detectors: dict[str, Any]) -> None:
    theirs = torchvision_compat.GeneralizedRCNNTransform
    assert {type(network.transform) for network in detectors.values()} == {theirs}
    settings = {"min_size", "max_size", "image_mean", "image_std", "size_divisible", "fixed_size"}
    assert [name for name, network in detectors.items() if not settings <= vars(network.transform).keys()] == []
    forward = inspect.getsource(theirs.forward)
    assert "self.resize(image, target_index)" in forward
    assert list(inspect.signature(theirs.resize).parameters) == ["self", "image", "target"]
    assert list(inspect.signature(theirs.postprocess).parameters)[1:] == [
        *("result", "image_shapes", "original_image_sizes")
    ]


def test_each_detector_has_heads_of_the_names_that_are_looked_for(detectors: dict[str, Any]) -> None:
    found = {
        name: {head for head in torchvision_compat.DETECTOR_HEADS if head in dict(network.named_modules())}
        for name, network in detectors.items()
    }
    two_stages = {"rpn.head", "roi_heads.box_predictor"}
    for name, heads in found.items():
        wanted = two_stages if "rcnn" in name else {"head"}
        wanted = wanted | ({"roi_heads.mask_predictor"} if name.startswith("maskrcnn") else set())
        wanted = wanted | ({"roi_heads.keypoint_predictor"} if name.startswith("keypointrcnn") else set())
        assert heads == wanted, name


def test_a_mask_is_pasted_at_its_box() -> None:
    pasted = torchvision_compat.paste_masks_in_image(torch.ones(1, 1, 28, 28), torch.tensor([[2.0, 4, 6, 8]]), (12, 10))
    assert pasted.shape == (1, 1, 12, 10)
    assert pasted[0, 0, 5:7, 3:5].min() > 0.5
    assert pasted[0, 0, 10:].max() == 0
