"""The choice of a run's setting."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from cvbatch.config.compute import ComputeConfig
from cvbatch.images.preprocess import View
from cvbatch.inference.settings import REFERENCE, InferenceSettings
from cvbatch.models.spec import ModelSpec
from cvbatch.output.store import LocalStore
from cvbatch.tuning.certificate import (
    MIN_IMAGES,
    TuningCache,
    TuningResult,
    candidate_settings,
    choose_candidate,
    compile_pays_below,
    default_settings,
    fastest_candidate,
    have_large_files,
    is_search_worthwhile,
    load_run_settings,
    requested_settings,
    save_run_settings,
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


def trial(
    setting: InferenceSettings, together: float, *, passed: bool = True, images: int = MIN_IMAGES
) -> dict[str, Any]:
    rates = {"decode_per_core": 9.0, "predict": together, "together": together}
    return {"setting": asdict(setting), "images": images, "rates": rates, "agreement": {}, "passed": passed}


def test_a_requested_precision_is_used() -> None:
    result = requested_settings(ComputeConfig(precision="bf16"))
    assert result is not None
    assert result.setting == InferenceSettings("bf16")
    assert requested_settings(AUTO) is None


def test_random_weights_use_a_fast_setting_without_comparison() -> None:
    result = default_settings(AUTO, [network(None)], on_gpu=False, cpu_bf16=True)
    assert result.setting == InferenceSettings("bf16", scaled_decode=True)
    assert "not applicable" in result.reason


def test_trained_weights_default_to_the_reference() -> None:
    assert default_settings(AUTO, [network(None), network()], on_gpu=False).setting == REFERENCE


def test_the_candidates_begin_with_the_reference() -> None:
    assert candidate_settings(AUTO, [network()], on_gpu=False, cpu_bf16=True) == [
        REFERENCE,
        InferenceSettings("fp32", scaled_decode=True),
        InferenceSettings("bf16"),
        InferenceSettings("bf16", scaled_decode=True),
    ]
    assert candidate_settings(AUTO, [network()], on_gpu=True)[0] == REFERENCE


def test_scaled_decoding_is_no_candidate_where_it_is_off_or_a_model_needs_whole_images() -> None:
    without = [REFERENCE, InferenceSettings("bf16")]
    assert candidate_settings(ComputeConfig(scaled_decode="off"), [network()], on_gpu=False, cpu_bf16=True) == without
    assert candidate_settings(AUTO, [network(), network(resize=None)], on_gpu=False, cpu_bf16=True) == without


def test_an_own_model_decides_its_precision() -> None:
    assert candidate_settings(AUTO, [spec()], on_gpu=True) == [REFERENCE, InferenceSettings("fp32", scaled_decode=True)]


def test_a_search_must_be_worth_its_time() -> None:
    settings = [REFERENCE, InferenceSettings("bf16")]
    assert is_search_worthwhile(1_000_000, settings, [network()])
    assert not is_search_worthwhile(10_000, settings, [network()])
    assert is_search_worthwhile(1_000_000, [REFERENCE], [network()])
    assert not is_search_worthwhile(1_000_000, [REFERENCE], [spec()])


def test_the_fastest_setting_that_agrees_is_chosen() -> None:
    measured = [
        trial(REFERENCE, 10),
        trial(InferenceSettings("fp32", scaled_decode=True), 12),
        trial(InferenceSettings("bf16"), 20),
        trial(InferenceSettings("bf16", scaled_decode=True), 30, passed=False),
    ]
    result = choose_candidate(measured, has_answers=True)
    assert result.setting == InferenceSettings("bf16")
    assert result.measured_rates() == measured[2]["rates"]
    assert len(result.candidates) == 4


def test_a_gain_within_the_noise_is_ignored() -> None:
    assert (
        choose_candidate([trial(REFERENCE, 10), trial(InferenceSettings("bf16"), 10.2)], has_answers=True).setting
        == REFERENCE
    )


def test_the_first_of_equally_fast_settings_is_the_best() -> None:
    first, second, third = (
        trial(REFERENCE, 10),
        trial(InferenceSettings(channels_last=False), 10.2),
        trial(InferenceSettings("bf16"), 10.4),
    )
    assert fastest_candidate([first, second]) is first
    assert fastest_candidate([first, second, third]) is third, "each is held against the best so far"


def test_too_few_images_keep_the_reference() -> None:
    measured = [
        trial(REFERENCE, 10, images=MIN_IMAGES - 1),
        trial(InferenceSettings("bf16"), 20, images=MIN_IMAGES - 1),
    ]
    result = choose_candidate(measured, has_answers=True)
    assert result.setting == REFERENCE
    assert not result.has_enough_images
    assert choose_candidate(measured, has_answers=False).setting == InferenceSettings("bf16")


def test_compiling_must_be_worth_its_time() -> None:
    assert compile_pays_below(1_000_000) > 100
    assert compile_pays_below(2_000) < 2


def test_without_compiling_the_next_best_setting_is_used() -> None:
    compiled = InferenceSettings("bf16", compiled=True)
    measured = [trial(REFERENCE, 10), trial(InferenceSettings("bf16"), 20), trial(compiled, 30)]
    result = choose_candidate(measured, has_answers=True)
    assert result.setting == compiled
    assert result.tried_compiling
    assert result.without_compiling().setting == InferenceSettings("bf16")
    assert result.without_compiling().without_compiling() == result.without_compiling()


def test_a_run_keeps_its_first_setting(tmp_path: Path) -> None:
    store = LocalStore(str(tmp_path))
    assert load_run_settings(store) is None
    first = choose_candidate([trial(REFERENCE, 10), trial(InferenceSettings("bf16"), 20)], has_answers=True)
    assert save_run_settings(store, first) == first
    assert save_run_settings(store, TuningResult(REFERENCE, "another")) == first
    assert load_run_settings(store) == first


def test_a_certificate_is_found_again_for_the_same_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    result = choose_candidate([trial(REFERENCE, 10), trial(InferenceSettings("bf16"), 20)], has_answers=True)
    cache = TuningCache("cpu", [network()], 2)
    assert cache.load_result() is None
    cache.save_result(result)
    again = TuningCache("cpu", [network("elsewhere")], 2).load_result()
    assert again is not None
    assert again.setting == result.setting
    assert again.candidates == result.candidates
    for other_cache in (
        TuningCache("cuda", [network()], 2),
        TuningCache("cpu", [network()], 4),
        TuningCache("cpu", [network(resize=224)], 2),
    ):
        assert other_cache.load_result() is None


def test_an_unusable_cache_folder_counts_as_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert TuningCache("cpu", [network()], 2).load_result() is None


def test_a_broken_certificate_is_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cache = TuningCache("cpu", [network()], 2)
    cache.save_result(TuningResult(REFERENCE, "because"))
    (path,) = (tmp_path / "cvbatch" / "settings").iterdir()
    path.write_text("{")
    assert cache.load_result() is None


def test_a_gpu_may_decode_and_a_search_on_it_costs_loading() -> None:
    settings = candidate_settings(AUTO, [network()], on_gpu=True)
    assert [setting.precision for setting in settings if setting.device_decode] == ["fp32", "bf16", "fp16"]
    assert not any(setting.device_decode and setting.scaled_decode for setting in settings)
    assert not any(
        setting.device_decode for setting in candidate_settings(AUTO, [network()], on_gpu=False, cpu_bf16=True)
    )
    assert not any(setting.device_decode for setting in candidate_settings(AUTO, [network(), spec()], on_gpu=True))
    assert is_search_worthwhile(1_000_000, settings, [network()])
    assert not is_search_worthwhile(1_000_000, settings, [network()], on_gpu=True)
    assert is_search_worthwhile(10_000_000, settings, [network()], on_gpu=True)


@pytest.mark.parametrize(
    ("sizes", "large"), [([80_000, 4_000_000, 5_000_000], True), ([80_000] * 3, False), ([None], False)]
)
def test_large_files_are_recognised_by_their_bytes(sizes: list[int | None], large: bool) -> None:
    assert have_large_files(pa.table({"image_bytes": pa.array(sizes, pa.int64())})) == large


def test_rates_of_small_images_also_apply_to_scaled_decoding() -> None:
    small = choose_candidate([trial(REFERENCE, 10), trial(InferenceSettings("bf16"), 20)], has_answers=True)
    assert not small.tried_scaling
    scaled = replace(small, setting=replace(small.setting, scaled_decode=True))
    assert scaled.measured_rates() == small.measured_rates()
    scaled_result = choose_candidate(
        [trial(REFERENCE, 10), trial(InferenceSettings(scaled_decode=True), 9)], has_answers=True
    )
    assert scaled_result.tried_scaling
    assert replace(scaled_result, setting=InferenceSettings("bf16", scaled_decode=True)).measured_rates() is None
