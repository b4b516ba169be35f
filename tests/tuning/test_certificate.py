"""Which setting a run gets."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from cvbatch.config.compute import ComputeConfig
from cvbatch.images.preprocess import View
from cvbatch.inference.settings import REFERENCE, Setting
from cvbatch.models.spec import ModelSpec
from cvbatch.output.store import LocalStore
from cvbatch.tuning import certificate
from cvbatch.tuning.certificate import (
    NEEDED,
    Cache,
    Certificate,
    candidates,
    choose,
    compile_pays_below,
    fastest,
    fixed,
    keep,
    kept,
    look_large,
    unmeasured,
    worth_searching,
)
from tests.samples import spec

AUTO = ComputeConfig()


def network(weights_path: str | None = "here", resize: int | None = 256) -> ModelSpec:
    return ModelSpec(
        alias="classification",
        task="classification",
        kind="torchvision",
        name="resnet18",
        view=View(resize=resize),
        weights_path=weights_path,
        categories=("a", "b"),
    )


def trial(setting: Setting, together: float, *, passed: bool = True, images: int = NEEDED) -> dict[str, Any]:
    rates = {"decode_per_core": 9.0, "predict": together, "together": together}
    return {"setting": asdict(setting), "images": images, "rates": rates, "agreement": {}, "passed": passed}


@pytest.fixture
def with_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certificate, "cpu_has_bf16", lambda: True)


def test_what_the_job_asks_for_is_taken() -> None:
    found = fixed(ComputeConfig(precision="bf16"))
    assert found is not None
    assert found.setting == Setting("bf16")
    assert fixed(AUTO) is None


@pytest.mark.usefixtures("with_bf16")
def test_random_weights_have_no_answers_to_protect() -> None:
    found = unmeasured(AUTO, [network(None)], on_gpu=False)
    assert found.setting == Setting("bf16", scaled_decode=True)
    assert "not applicable" in found.reason


def test_real_weights_are_a_matter_of_parity() -> None:
    assert unmeasured(AUTO, [network(None), network()], on_gpu=False).setting == REFERENCE


@pytest.mark.usefixtures("with_bf16")
def test_the_candidates_begin_with_the_reference() -> None:
    assert candidates(AUTO, [network()], on_gpu=False) == [
        REFERENCE,
        Setting("fp32", scaled_decode=True),
        Setting("bf16"),
        Setting("bf16", scaled_decode=True),
    ]
    assert candidates(AUTO, [network()], on_gpu=True)[0] == REFERENCE


@pytest.mark.usefixtures("with_bf16")
def test_images_are_not_scaled_where_that_is_off_or_a_model_wants_them_whole() -> None:
    without = [REFERENCE, Setting("bf16")]
    assert candidates(ComputeConfig(scaled_decode="off"), [network()], on_gpu=False) == without
    assert candidates(AUTO, [network(), network(resize=None)], on_gpu=False) == without


def test_a_model_of_ones_own_decides_for_itself_on_its_precision() -> None:
    assert candidates(AUTO, [spec()], on_gpu=True) == [REFERENCE, Setting("fp32", scaled_decode=True)]


def test_a_search_must_pay() -> None:
    tried = [REFERENCE, Setting("bf16")]
    assert worth_searching(1_000_000, tried, [network()])
    assert not worth_searching(10_000, tried, [network()])
    assert worth_searching(1_000_000, [REFERENCE], [network()])
    assert not worth_searching(1_000_000, [REFERENCE], [spec()])


def test_the_fastest_that_agrees_is_chosen() -> None:
    measured = [
        trial(REFERENCE, 10),
        trial(Setting("fp32", scaled_decode=True), 12),
        trial(Setting("bf16"), 20),
        trial(Setting("bf16", scaled_decode=True), 30, passed=False),
    ]
    found = choose(measured, has_answers=True)
    assert found.setting == Setting("bf16")
    assert found.rates() == measured[2]["rates"]
    assert len(found.candidates) == 4


def test_a_gain_that_may_be_chance_is_none() -> None:
    assert choose([trial(REFERENCE, 10), trial(Setting("bf16"), 10.2)], has_answers=True).setting == REFERENCE


def test_what_is_tried_next_begins_from_the_first_of_equals() -> None:
    first, second, third = trial(REFERENCE, 10), trial(Setting(channels_last=False), 10.2), trial(Setting("bf16"), 10.4)
    assert fastest([first, second]) is first
    assert fastest([first, second, third]) is third, "each is held against the best so far"


def test_few_images_prove_nothing() -> None:
    measured = [trial(REFERENCE, 10, images=NEEDED - 1), trial(Setting("bf16"), 20, images=NEEDED - 1)]
    found = choose(measured, has_answers=True)
    assert found.setting == REFERENCE
    assert not found.measured_enough
    assert choose(measured, has_answers=False).setting == Setting("bf16")


def test_compiling_must_pay() -> None:
    assert compile_pays_below(1_000_000) > 100
    assert compile_pays_below(2_000) < 2


def test_without_compiling_the_next_best_is_taken() -> None:
    compiled = Setting("bf16", compiled=True)
    measured = [trial(REFERENCE, 10), trial(Setting("bf16"), 20), trial(compiled, 30)]
    found = choose(measured, has_answers=True)
    assert found.setting == compiled
    assert found.tried_compiling
    assert found.uncompiled().setting == Setting("bf16")
    assert found.uncompiled().uncompiled() == found.uncompiled()


def test_a_run_keeps_its_first_setting(tmp_path: Path) -> None:
    store = LocalStore(str(tmp_path))
    assert kept(store) is None
    first = choose([trial(REFERENCE, 10), trial(Setting("bf16"), 20)], has_answers=True)
    assert keep(store, first) == first
    assert keep(store, Certificate(REFERENCE, "another")) == first
    assert kept(store) == first


def test_a_certificate_is_found_again_for_the_same_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    found = choose([trial(REFERENCE, 10), trial(Setting("bf16"), 20)], has_answers=True)
    cache = Cache("cpu", [network()], 2)
    assert cache.load() is None
    cache.save(found)
    again = Cache("cpu", [network("elsewhere")], 2).load()
    assert again is not None
    assert again.setting == found.setting
    assert again.candidates == found.candidates
    for other in (Cache("cuda", [network()], 2), Cache("cpu", [network()], 4), Cache("cpu", [network(resize=224)], 2)):
        assert other.load() is None


def test_where_nothing_can_be_kept_nothing_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert Cache("cpu", [network()], 2).load() is None


def test_a_broken_certificate_is_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cache = Cache("cpu", [network()], 2)
    cache.save(Certificate(REFERENCE, "because"))
    (path,) = (tmp_path / "cvbatch" / "settings").iterdir()
    path.write_text("{")
    assert cache.load() is None


def test_a_gpu_may_decode_and_a_search_on_it_costs_loading() -> None:
    tried = candidates(AUTO, [network()], on_gpu=True)
    assert [each.precision for each in tried if each.device_decode] == ["fp32", "bf16", "fp16"]
    assert not any(each.device_decode and each.scaled_decode for each in tried)
    assert not any(each.device_decode for each in candidates(AUTO, [network()], on_gpu=False))
    assert not any(each.device_decode for each in candidates(AUTO, [network(), spec()], on_gpu=True))
    assert worth_searching(1_000_000, tried, [network()])
    assert not worth_searching(1_000_000, tried, [network()], on_gpu=True)
    assert worth_searching(10_000_000, tried, [network()], on_gpu=True)


@pytest.mark.parametrize(
    ("sizes", "large"), [([80_000, 4_000_000, 5_000_000], True), ([80_000] * 3, False), ([None], False)]
)
def test_large_files_are_known_by_their_bytes(sizes: list[int | None], large: bool) -> None:
    assert look_large(pa.table({"image_bytes": pa.array(sizes, pa.int64())})) == large


def test_small_images_say_nothing_of_scaling_but_their_rates_stand() -> None:
    small = choose([trial(REFERENCE, 10), trial(Setting("bf16"), 20)], has_answers=True)
    assert not small.tried_scaling
    scaled = replace(small, setting=replace(small.setting, scaled_decode=True))
    assert scaled.rates() == small.rates()
    both = choose([trial(REFERENCE, 10), trial(Setting(scaled_decode=True), 9)], has_answers=True)
    assert both.tried_scaling
    assert replace(both, setting=Setting("bf16", scaled_decode=True)).rates() is None
