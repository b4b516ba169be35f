"""The setting of a run, and the certificate with the measured speed and agreement behind it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from cvbatch.config.compute import ComputeConfig
from cvbatch.errors import CvbatchError
from cvbatch.images.preprocess import can_resize_on_gpu, compute_min_decode_side
from cvbatch.inference.settings import REFERENCE, InferenceSettings
from cvbatch.models.backends import backend_of, is_setting_applicable
from cvbatch.models.spec import ModelSpec
from cvbatch.output.store import Store, create_with_retries
from cvbatch.schema import IMAGE_BYTES
from cvbatch.system.cache_files import atomic_write_path, cache_file_path, make_cache_folder
from cvbatch.system.cpu import cpu_has_bf16, instruction_sets, processor_name
from cvbatch.system.formats import FORMAT, RecordFormat
from cvbatch.system.versions import package_versions

MIN_IMAGES: Final = 256
"""Images on which a setting must agree with the reference."""
SAMPLE_IMAGES: Final = 320
"""Images to measure; some may be broken."""
_SEARCH_SHARE: Final = 0.03
"""Maximum share of the expected run that a search may cost."""
COMPARED_IMAGES: Final = 96
"""Images on which a setting takes turns with the best one so far; it must be faster on these."""
_IMAGES_WHILE_LOADING: Final = 8_000
"""Images that a GPU could predict while the models are loaded for one setting."""
_COMPILE_SECONDS: Final = 60.0
"""Seconds to compile one network on two cores."""
_LARGE_BYTES: Final = 300_000
"""Bytes of a JPEG of 1.5 megapixels."""
NOT_APPLICABLE: Final = "parity: not applicable, random weights"
MIN_SPEEDUP: Final = 1.03
"""Factor by which a setting must be faster than an earlier one; a smaller gain may be noise."""
_SETTING_FILE: Final = "_cvbatch/setting.json"


@dataclass(frozen=True, slots=True)
class TuningResult:
    """The chosen setting and the measurements behind it."""

    setting: InferenceSettings
    reason: str
    candidates: tuple[Mapping[str, Any], ...] = ()
    """Each measured setting, with its rates and its agreement with the reference, by alias."""
    large_files: bool = False
    """Whether the measured files are large enough to profit from scaled decoding."""

    def to_json(self) -> dict[str, Any]:
        """Plain data for the run record."""
        return CERTIFICATE.to_json(self)

    @property
    def has_enough_images(self) -> bool:
        """Whether enough images were measured to apply the result to other images."""
        return bool(self.candidates) and self.candidates[0]["images"] >= MIN_IMAGES

    @property
    def tried_compiling(self) -> bool:
        """Whether a compiled network is among the candidates."""
        return any(candidate["setting"].get("compiled") for candidate in self.candidates)

    @property
    def mean_bytes(self) -> float | None:
        """Mean bytes of the measured encoded files."""
        return self.candidates[0].get("mean_bytes") if self.candidates else None

    @property
    def tried_scaling(self) -> bool:
        """Whether scaled decoding is among the candidates, as the images were large enough for it."""
        return any(candidate["setting"].get("scaled_decode") for candidate in self.candidates)

    def without_compiling(self) -> TuningResult:
        """Return the result with the fastest setting that is not compiled."""
        if not self.setting.compiled:
            return self
        best = fastest_candidate(candidate for candidate in self.candidates if not candidate["setting"].get("compiled"))
        setting = InferenceSettings.from_json(best["setting"])
        if not self.tried_scaling:
            setting = replace(setting, scaled_decode=self.setting.scaled_decode)
        return replace(self, setting=setting, reason=f"{self.reason}; compiling would not pay for this run")

    def measured_rates(self) -> Mapping[str, float] | None:
        """Measured `decode_per_core` and `predict` images per second of the setting, if it was measured."""
        wanted = self.setting
        if not self.tried_scaling:
            # scaling makes no difference for images as small as the measured ones
            wanted = replace(wanted, scaled_decode=False)
        return next(
            (
                candidate["rates"]
                for candidate in self.candidates
                if InferenceSettings.from_json(candidate["setting"]) == wanted
            ),
            None,
        )


CERTIFICATE: Final = RecordFormat("certificate", TuningResult)


def requested_settings(compute: ComputeConfig) -> TuningResult | None:
    """Return the setting that the job requests; None if the job leaves the choice."""
    return (
        None if compute.precision == "auto" else TuningResult(InferenceSettings(compute.precision), "as the job asks")
    )


def default_settings(
    compute: ComputeConfig, models: Sequence[ModelSpec], *, on_gpu: bool, cpu_bf16: bool | None = None
) -> TuningResult:
    """Return the setting of a run that is too short to measure.

    Args:
        compute: The requested resources.
        models: Of the job.
        on_gpu: Whether a GPU predicts.
        cpu_bf16: Whether the processor has fast bfloat16; None to check this machine.
    """
    if not have_trained_weights(models):
        precision = "bf16" if on_gpu or _has_bf16(cpu_bf16) else "fp32"
        setting = InferenceSettings(precision, scaled_decode=can_scale_decode(compute, models))
        return TuningResult(setting, f"a guess; {NOT_APPLICABLE}")
    return TuningResult(REFERENCE, "the reference: a search for a faster setting would not pay for this run")


def settings_of_passes(compute: ComputeConfig, models: Sequence[ModelSpec], *, on_gpu: bool) -> TuningResult:
    """Return the setting of a run whose models do not fit beside each other; arguments as in `default_settings`."""
    chosen = default_settings(compute, models, on_gpu=on_gpu)
    if chosen.setting != REFERENCE:
        return chosen
    return replace(chosen, reason="the reference: models that run in several passes are not measured")


def _has_bf16(cpu_bf16: bool | None) -> bool:
    return cpu_has_bf16() if cpu_bf16 is None else cpu_bf16


def have_trained_weights(models: Sequence[ModelSpec]) -> bool:
    """Whether any model has trained weights; answers of random weights need no comparison."""
    return not all(backend_of(model).has_random_weights(model) for model in models)


def manage_own_settings(models: Sequence[ModelSpec]) -> bool:
    """Whether no setting applies to the models, because own models decide how they run."""
    return not any(backend_of(model).applicable_settings(model) for model in models)


def candidate_settings(
    compute: ComputeConfig, models: Sequence[ModelSpec], *, on_gpu: bool, cpu_bf16: bool | None = None
) -> list[InferenceSettings]:
    """Return the reference and the settings to compare with it first; arguments as in `default_settings`."""
    precisions = ["fp32"]
    if is_setting_applicable("precision", models):
        precisions += ["bf16", "fp16"] if on_gpu else ["bf16"] if _has_bf16(cpu_bf16) else []
    decode_variants = [{"scaled_decode": False}]
    if can_scale_decode(compute, models):
        decode_variants.append({"scaled_decode": True})
    if on_gpu and _can_decode_on_gpu(models):
        decode_variants.append({"device_decode": True})
    return [
        InferenceSettings(precision, **decode_options) for precision in precisions for decode_options in decode_variants
    ]


def is_search_worthwhile(
    rows: int, settings: Sequence[InferenceSettings], models: Sequence[ModelSpec], *, on_gpu: bool = False
) -> bool:
    """Whether a search can find a faster setting, and costs little compared with the run."""
    if len(settings) == 1 and manage_own_settings(models):
        return False
    images_per_setting = SAMPLE_IMAGES + 2 * COMPARED_IMAGES + (_IMAGES_WHILE_LOADING if on_gpu else 0)
    return images_per_setting * len(settings) <= _SEARCH_SHARE * rows


def compile_pays_below(rows: int) -> float:
    """Return the images per second below which compiling pays for a run."""
    return _SEARCH_SHARE * rows / _COMPILE_SECONDS


def _can_decode_on_gpu(models: Sequence[ModelSpec]) -> bool:
    """Whether a GPU can decode and resize for all models; own models need arrays on the host."""
    return all(is_setting_applicable("device_decode", [model]) and can_resize_on_gpu(model.view) for model in models)


def have_large_files(rows: pa.Table) -> bool:
    """Whether most images are so large that scaled decoding may pay."""
    median_bytes = pc.approximate_median(rows[IMAGE_BYTES]).as_py()
    return median_bytes is not None and median_bytes > _LARGE_BYTES


def fastest_candidate(measured: Iterable[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Return the fastest setting that agrees with the reference; the first one among equally fast ones."""
    best, *others = (candidate for candidate in measured if candidate["passed"])
    for candidate in others:
        if candidate["rates"]["together"] > MIN_SPEEDUP * best["rates"]["together"]:
            best = candidate
    return best


def choose_candidate(measured: Sequence[Mapping[str, Any]], *, has_answers: bool) -> TuningResult:
    """Choose the fastest setting whose answers agree with the reference.

    Args:
        measured: For each setting `{setting, images, rates, agreement, passed}`; the reference comes first.
        has_answers: Whether the answers matter, as the weights are trained.
    """
    reference, best = measured[0], fastest_candidate(measured)
    if has_answers and reference["images"] < MIN_IMAGES:
        reason = (
            f"the reference: a faster setting needs {MIN_IMAGES} good images to agree on, got {reference['images']}"
        )
        return TuningResult(REFERENCE, reason, tuple(measured))
    reason = f"the fastest of {len(measured)} settings that agrees with fp32 on {best['images']} images of the run"
    if not has_answers:
        reason = f"the fastest of {len(measured)} settings; {NOT_APPLICABLE}"
    return TuningResult(InferenceSettings.from_json(best["setting"]), reason, tuple(measured))


def load_run_settings(store: Store) -> TuningResult | None:
    """Return the setting that an earlier attempt of this run chose; it never changes."""
    try:
        return CERTIFICATE.decode_record(store.read_object(_SETTING_FILE), f"{store.root}/{_SETTING_FILE}")
    except FileNotFoundError:
        return None


def save_run_settings(store: Store, certificate: TuningResult) -> TuningResult:
    """Store the setting of the run; return the stored one if another attempt was first."""
    create_with_retries(store, _SETTING_FILE, CERTIFICATE.encode_record(certificate))
    return load_run_settings(store) or certificate


class TuningCache:
    """Certificates of this machine, by models, device and versions.

    Args:
        device: `cpu` or `cuda`.
        models: The models that are certified together.
        threads: CPU threads of an actor.
    """

    def __init__(self, device: str, models: Sequence[ModelSpec], threads: int) -> None:
        key = {
            "device": device,
            "processor": [processor_name(), instruction_sets()],
            "threads": threads,
            "models": [_model_key(model) for model in models],
            "versions": package_versions(),
        }
        self._path = cache_file_path("settings", key, ".json")

    def load_result(self) -> TuningResult | None:
        """Return the certificate of an earlier run on this machine, or None."""
        try:
            result = CERTIFICATE.decode_record(self._path.read_bytes(), str(self._path))
        except (OSError, CvbatchError):  # an unusable file only costs a new measurement
            return None
        return replace(result, reason=f"{result.reason}, as measured before")

    def save_result(self, certificate: TuningResult) -> None:
        """Store a certificate for later runs on this machine."""
        make_cache_folder(self._path)
        with atomic_write_path(self._path) as temporary_file:
            temporary_file.write_bytes(CERTIFICATE.encode_record(certificate))


def _model_key(model: ModelSpec) -> dict[str, Any]:
    data = {**replace(model, folder=None).to_json(), "weights_path": None, "alias": None}
    return {name: value for name, value in data.items() if name != FORMAT}


def can_scale_decode(compute: ComputeConfig, models: Sequence[ModelSpec]) -> bool:
    """Whether large JPEGs may be scaled while they are decoded."""
    return compute.scaled_decode != "off" and compute_min_decode_side(model.view for model in models) is not None
