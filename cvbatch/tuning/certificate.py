"""How fast and how exact: the setting of a run, where it comes from, and the certificate that stands for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from cvbatch.config.compute import ComputeConfig
from cvbatch.errors import CvbatchError
from cvbatch.images.preprocess import SMOOTH, enough
from cvbatch.inference.settings import REFERENCE, Setting
from cvbatch.models.backends import applies, backend_of
from cvbatch.models.spec import ModelSpec
from cvbatch.output.store import Store, create_surely
from cvbatch.schema import IMAGE_BYTES
from cvbatch.system.cache_files import kept_file, make_folder, replacing
from cvbatch.system.cpu import cpu_has_bf16, instructions, processor
from cvbatch.system.formats import FORMAT, Format
from cvbatch.system.versions import versions

NEEDED: Final = 256
"""Images on which a setting must agree with the reference."""
SAMPLE: Final = 320
"""Images to try; some may be broken."""
_SEARCH_SHARE: Final = 0.03
"""A search may cost this share of the expected run."""
SOME: Final = 96
"""Images on which a setting must be faster than the best so far, which takes turns with it."""
_WHILE_LOADING: Final = 8_000
"""Images that a GPU would be through with while models are loaded for one setting."""
_COMPILE_SECONDS: Final = 60.0
"""What compiling one network takes on two cores."""
_LARGE_BYTES: Final = 300_000
"""What a JPEG of a megapixel and a half has."""
NOT_APPLICABLE: Final = "parity: not applicable, random weights"
WORTH_IT: Final = 1.03
"""A setting must be so much faster than one that was tried before; less may be chance."""
_KEPT: Final = "_cvbatch/setting.json"


@dataclass(frozen=True, slots=True)
class Certificate:
    """Why a run uses its setting."""

    setting: Setting
    reason: str
    candidates: tuple[Mapping[str, Any], ...] = ()
    """Each setting that was tried: its rates and its agreement with the reference, by alias."""
    large_files: bool = False
    """Whether the files that were measured looked large."""

    def to_json(self) -> dict[str, Any]:
        """Plain data for the run record."""
        return CERTIFICATE.to_json(self)

    @property
    def measured_enough(self) -> bool:
        """Whether it speaks for other images, too."""
        return bool(self.candidates) and self.candidates[0]["images"] >= NEEDED

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

    def uncompiled(self) -> Certificate:
        """The same, if nothing may be compiled."""
        if not self.setting.compiled:
            return self
        best = fastest(each for each in self.candidates if not each["setting"].get("compiled"))
        setting = Setting.from_json(best["setting"])
        if not self.tried_scaling:
            setting = replace(setting, scaled_decode=self.setting.scaled_decode)
        return replace(self, setting=setting, reason=f"{self.reason}; compiling would not pay for this run")

    def rates(self) -> Mapping[str, float] | None:
        """Measured `decode_per_core` and `predict` images per second of the setting, if it was measured."""
        wanted = self.setting
        if not self.tried_scaling:
            # it makes no difference to images as small as those that were measured
            wanted = replace(wanted, scaled_decode=False)
        return next((each["rates"] for each in self.candidates if Setting.from_json(each["setting"]) == wanted), None)


CERTIFICATE: Final = Format("certificate", Certificate)


def fixed(compute: ComputeConfig) -> Certificate | None:
    """The setting that the job asks for; None if it leaves the choice."""
    return None if compute.precision == "auto" else Certificate(Setting(compute.precision), "as the job asks")


def unmeasured(compute: ComputeConfig, models: Sequence[ModelSpec], *, on_gpu: bool) -> Certificate:
    """What a run takes for which measuring does not pay."""
    if not have_answers(models):
        precision = "bf16" if on_gpu or cpu_has_bf16() else "fp32"
        setting = Setting(precision, scaled_decode=may_scale(compute, models))
        return Certificate(setting, f"a guess; {NOT_APPLICABLE}")
    return Certificate(REFERENCE, "the reference: a search for a faster setting would not pay for this run")


def have_answers(models: Sequence[ModelSpec]) -> bool:
    """Whether there are answers to protect: random weights have none."""
    return not all(backend_of(model).has_random_weights(model) for model in models)


def decide_themselves(models: Sequence[ModelSpec]) -> bool:
    """Whether nobody but the models decides how they run: they are somebody's own."""
    return not any(backend_of(model).settings(model) for model in models)


def candidates(compute: ComputeConfig, models: Sequence[ModelSpec], *, on_gpu: bool) -> list[Setting]:
    """The reference, and what is compared with it first."""
    precisions = ["fp32"]
    if applies("precision", models):
        precisions += ["bf16", "fp16"] if on_gpu else ["bf16"] if cpu_has_bf16() else []
    decoding = [{"scaled_decode": False}]
    if may_scale(compute, models):
        decoding.append({"scaled_decode": True})
    if on_gpu and _may_decode(models):
        decoding.append({"device_decode": True})
    return [Setting(precision, **each) for precision in precisions for each in decoding]


def worth_searching(
    rows: int, settings: Sequence[Setting], models: Sequence[ModelSpec], *, on_gpu: bool = False
) -> bool:
    """Whether there is something to find, and a search costs little against the run itself."""
    if len(settings) == 1 and decide_themselves(models):
        return False
    each = SAMPLE + 2 * SOME + (_WHILE_LOADING if on_gpu else 0)
    return each * len(settings) <= _SEARCH_SHARE * rows


def compile_pays_below(rows: int) -> float:
    """A run slower than so many images per second is worth the time that compiling takes."""
    return _SEARCH_SHARE * rows / _COMPILE_SECONDS


def _may_decode(models: Sequence[ModelSpec]) -> bool:
    """Whether a GPU can make what the models want to see: those of somebody else want arrays."""
    return all(applies("device_decode", [model]) and model.view.interpolation in SMOOTH for model in models)


def look_large(rows: pa.Table) -> bool:
    """Whether most images are so large that scaling them while they are decoded may be worth it."""
    middle = pc.approximate_median(rows[IMAGE_BYTES]).as_py()
    return middle is not None and middle > _LARGE_BYTES


def fastest(measured: Iterable[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The fastest setting that agrees with the reference; of those that may be equally fast the first one."""
    best, *others = (each for each in measured if each["passed"])
    for each in others:
        if each["rates"]["together"] > WORTH_IT * best["rates"]["together"]:
            best = each
    return best


def choose(measured: Sequence[Mapping[str, Any]], *, has_answers: bool) -> Certificate:
    """Take the fastest setting whose answers agree with the reference.

    Args:
        measured: For each setting `{setting, images, rates, agreement, passed}`; the reference comes first.
        has_answers: Whether there are answers to protect.
    """
    reference, best = measured[0], fastest(measured)
    if has_answers and reference["images"] < NEEDED:
        reason = f"the reference: a faster setting needs {NEEDED} good images to agree on, got {reference['images']}"
        return Certificate(REFERENCE, reason, tuple(measured))
    reason = f"the fastest of {len(measured)} settings that agrees with fp32 on {best['images']} images of the run"
    if not has_answers:
        reason = f"the fastest of {len(measured)} settings; {NOT_APPLICABLE}"
    return Certificate(Setting.from_json(best["setting"]), reason, tuple(measured))


def kept(store: Store) -> Certificate | None:
    """The setting that an earlier start of this run chose; it must stay."""
    try:
        return CERTIFICATE.decode(store.read(_KEPT), f"{store.root}/{_KEPT}")
    except FileNotFoundError:
        return None


def keep(store: Store, certificate: Certificate) -> Certificate:
    """Make this the setting of the run; if another start was faster, theirs is returned."""
    create_surely(store, _KEPT, CERTIFICATE.encode(certificate))
    return kept(store) or certificate


class Cache:
    """Certificates of this machine, by models, device and versions.

    Args:
        device: `cpu` or `cuda`.
        models: What is certified together.
        threads: CPU threads of an actor.
    """

    def __init__(self, device: str, models: Sequence[ModelSpec], threads: int) -> None:
        key = {
            "device": device,
            "processor": [processor(), instructions()],
            "threads": threads,
            "models": [_what_it_answers(model) for model in models],
            "versions": versions(),
        }
        self._path = kept_file("settings", key, ".json")

    def load(self) -> Certificate | None:
        """The certificate of an earlier run on this machine."""
        try:
            found = CERTIFICATE.decode(self._path.read_bytes(), str(self._path))
        except (OSError, CvbatchError):  # whatever it is, it can be measured anew
            return None
        return replace(found, reason=f"{found.reason}, as measured before")

    def save(self, certificate: Certificate) -> None:
        """Keep a certificate for the next run."""
        make_folder(self._path)
        with replacing(self._path) as part:
            part.write_bytes(CERTIFICATE.encode(certificate))


def _what_it_answers(model: ModelSpec) -> dict[str, Any]:
    data = {**replace(model, folder=None).to_json(), "weights_path": None, "alias": None}
    return {name: value for name, value in data.items() if name != FORMAT}


def may_scale(compute: ComputeConfig, models: Sequence[ModelSpec]) -> bool:
    """Whether large JPEGs may be scaled while they are decoded."""
    return compute.scaled_decode != "off" and enough(model.view for model in models) is not None
