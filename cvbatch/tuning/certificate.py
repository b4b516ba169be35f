"""How fast and how exact: the setting of a run, where it comes from, and the certificate that stands for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from cvbatch.config.compute import ComputeConfig
from cvbatch.errors import CvbatchError
from cvbatch.images.preprocess import GPU_INTERPOLATIONS, compute_min_decode_side
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
"""Images to try; some may be broken."""
_SEARCH_SHARE: Final = 0.03
"""A search may cost this share of the expected run."""
COMPARED_IMAGES: Final = 96
"""Images on which a setting must be faster than the best so far, which takes turns with it."""
_IMAGES_WHILE_LOADING: Final = 8_000
"""Images that a GPU would be through with while models are loaded for one setting."""
_COMPILE_SECONDS: Final = 60.0
"""What compiling one network takes on two cores."""
_LARGE_BYTES: Final = 300_000
"""What a JPEG of a megapixel and a half has."""
NOT_APPLICABLE: Final = "parity: not applicable, random weights"
MIN_SPEEDUP: Final = 1.03
"""A setting must be so much faster than one that was tried before; less may be chance."""
_SETTING_FILE: Final = "_cvbatch/setting.json"


@dataclass(frozen=True, slots=True)
class TuningResult:
    """Why a run uses its setting."""

    setting: InferenceSettings
    reason: str
    candidates: tuple[Mapping[str, Any], ...] = ()
    """Each setting that was tried: its rates and its agreement with the reference, by alias."""
    large_files: bool = False
    """Whether the files that were measured looked large."""

    def to_json(self) -> dict[str, Any]:
        """Plain data for the run record."""
        return CERTIFICATE.to_json(self)

    @property
    def has_enough_images(self) -> bool:
        """Whether it speaks for other images, too."""
        return bool(self.candidates) and self.candidates[0]["images"] >= MIN_IMAGES

    @property
    def tried_compiling(self) -> bool:
        """Whether a compiled network is among the candidates."""
        return any(each["setting"].get("compiled") for each in self.candidates)

    @property
    def mean_bytes(self) -> float | None:
        """Of the encoded files that were measured."""
        return self.candidates[0].get("mean_bytes") if self.candidates else None

    @property
    def tried_scaling(self) -> bool:
        """Whether there were images large enough to be scaled while they were decoded."""
        return any(each["setting"].get("scaled_decode") for each in self.candidates)

    def without_compiling(self) -> TuningResult:
        """The same, if nothing may be compiled."""
        if not self.setting.compiled:
            return self
        best = fastest_candidate(each for each in self.candidates if not each["setting"].get("compiled"))
        setting = InferenceSettings.from_json(best["setting"])
        if not self.tried_scaling:
            setting = replace(setting, scaled_decode=self.setting.scaled_decode)
        return replace(self, setting=setting, reason=f"{self.reason}; compiling would not pay for this run")

    def measured_rates(self) -> Mapping[str, float] | None:
        """Measured `decode_per_core` and `predict` images per second of the setting, if it was measured."""
        wanted = self.setting
        if not self.tried_scaling:
            # it makes no difference to images as small as those that were measured
            wanted = replace(wanted, scaled_decode=False)
        return next(
            (each["rates"] for each in self.candidates if InferenceSettings.from_json(each["setting"]) == wanted), None
        )


CERTIFICATE: Final = RecordFormat("certificate", TuningResult)


def requested_settings(compute: ComputeConfig) -> TuningResult | None:
    """The setting that the job asks for; None if it leaves the choice."""
    return (
        None if compute.precision == "auto" else TuningResult(InferenceSettings(compute.precision), "as the job asks")
    )


def default_settings(
    compute: ComputeConfig, models: Sequence[ModelSpec], *, on_gpu: bool, cpu_bf16: bool | None = None
) -> TuningResult:
    """What a run takes for which measuring does not pay.

    Args:
        compute: What the job asks for.
        models: Of the job.
        on_gpu: Whether a GPU predicts.
        cpu_bf16: Whether the processor calculates in bfloat16; by default that of this machine.
    """
    if not have_trained_weights(models):
        precision = "bf16" if on_gpu or _has_bf16(cpu_bf16) else "fp32"
        setting = InferenceSettings(precision, scaled_decode=can_scale_decode(compute, models))
        return TuningResult(setting, f"a guess; {NOT_APPLICABLE}")
    return TuningResult(REFERENCE, "the reference: a search for a faster setting would not pay for this run")


def _has_bf16(said: bool | None) -> bool:
    return cpu_has_bf16() if said is None else said


def have_trained_weights(models: Sequence[ModelSpec]) -> bool:
    """Whether there are answers to protect: random weights have none."""
    return not all(backend_of(model).has_random_weights(model) for model in models)


def choose_their_settings(models: Sequence[ModelSpec]) -> bool:
    """Whether nobody but the models decides how they run: they are somebody's own."""
    return not any(backend_of(model).applicable_settings(model) for model in models)


def candidate_settings(
    compute: ComputeConfig, models: Sequence[ModelSpec], *, on_gpu: bool, cpu_bf16: bool | None = None
) -> list[InferenceSettings]:
    """The reference, and what is compared with it first; the arguments are those of `default_settings`."""
    precisions = ["fp32"]
    if is_setting_applicable("precision", models):
        precisions += ["bf16", "fp16"] if on_gpu else ["bf16"] if _has_bf16(cpu_bf16) else []
    decoding = [{"scaled_decode": False}]
    if can_scale_decode(compute, models):
        decoding.append({"scaled_decode": True})
    if on_gpu and _can_decode_on_gpu(models):
        decoding.append({"device_decode": True})
    return [InferenceSettings(precision, **each) for precision in precisions for each in decoding]


def is_search_worthwhile(
    rows: int, settings: Sequence[InferenceSettings], models: Sequence[ModelSpec], *, on_gpu: bool = False
) -> bool:
    """Whether there is something to find, and a search costs little against the run itself."""
    if len(settings) == 1 and choose_their_settings(models):
        return False
    each = SAMPLE_IMAGES + 2 * COMPARED_IMAGES + (_IMAGES_WHILE_LOADING if on_gpu else 0)
    return each * len(settings) <= _SEARCH_SHARE * rows


def compile_pays_below(rows: int) -> float:
    """A run slower than so many images per second is worth the time that compiling takes."""
    return _SEARCH_SHARE * rows / _COMPILE_SECONDS


def _can_decode_on_gpu(models: Sequence[ModelSpec]) -> bool:
    """Whether a GPU can make what the models want to see: those of somebody else want arrays."""
    return all(
        is_setting_applicable("device_decode", [model]) and model.view.interpolation in GPU_INTERPOLATIONS
        for model in models
    )


def have_large_files(rows: pa.Table) -> bool:
    """Whether most images are so large that scaling them while they are decoded may be worth it."""
    middle = pc.approximate_median(rows[IMAGE_BYTES]).as_py()
    return middle is not None and middle > _LARGE_BYTES


def fastest_candidate(measured: Iterable[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The fastest setting that agrees with the reference; of those that may be equally fast the first one."""
    best, *others = (each for each in measured if each["passed"])
    for each in others:
        if each["rates"]["together"] > MIN_SPEEDUP * best["rates"]["together"]:
            best = each
    return best


def choose_candidate(measured: Sequence[Mapping[str, Any]], *, has_answers: bool) -> TuningResult:
    """Take the fastest setting whose answers agree with the reference.

    Args:
        measured: For each setting `{setting, images, rates, agreement, passed}`; the reference comes first.
        has_answers: Whether there are answers to protect.
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
    """The setting that an earlier start of this run chose; it must stay."""
    try:
        return CERTIFICATE.decode_record(store.read_object(_SETTING_FILE), f"{store.root}/{_SETTING_FILE}")
    except FileNotFoundError:
        return None


def save_run_settings(store: Store, certificate: TuningResult) -> TuningResult:
    """Make this the setting of the run; if another start was faster, theirs is returned."""
    create_with_retries(store, _SETTING_FILE, CERTIFICATE.encode_record(certificate))
    return load_run_settings(store) or certificate


class TuningCache:
    """Certificates of this machine, by models, device and versions.

    Args:
        device: `cpu` or `cuda`.
        models: What is certified together.
        threads: CPU threads of an actor.
    """

    def __init__(self, device: str, models: Sequence[ModelSpec], threads: int) -> None:
        key = {
            "device": device,
            "processor": [processor_name(), instruction_sets()],
            "threads": threads,
            "models": [_what_it_answers(model) for model in models],
            "versions": package_versions(),
        }
        self._path = cache_file_path("settings", key, ".json")

    def load_result(self) -> TuningResult | None:
        """The certificate of an earlier run on this machine."""
        try:
            found = CERTIFICATE.decode_record(self._path.read_bytes(), str(self._path))
        except (OSError, CvbatchError):  # whatever it is, it can be measured anew
            return None
        return replace(found, reason=f"{found.reason}, as measured before")

    def save_result(self, certificate: TuningResult) -> None:
        """Keep a certificate for the next run."""
        make_cache_folder(self._path)
        with atomic_write_path(self._path) as part:
            part.write_bytes(CERTIFICATE.encode_record(certificate))


def _what_it_answers(model: ModelSpec) -> dict[str, Any]:
    data = {**replace(model, folder=None).to_json(), "weights_path": None, "alias": None}
    return {name: value for name, value in data.items() if name != FORMAT}


def can_scale_decode(compute: ComputeConfig, models: Sequence[ModelSpec]) -> bool:
    """Whether large JPEGs may be scaled while they are decoded."""
    return compute.scaled_decode != "off" and compute_min_decode_side(model.view for model in models) is not None
