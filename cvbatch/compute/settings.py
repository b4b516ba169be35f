"""How fast and how exact: the setting of a run, where it comes from, and the certificate that stands for it."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from cvbatch.config import ComputeConfig
from cvbatch.models.spec import ModelSpec
from cvbatch.versions import versions
from cvbatch.views import enough
from cvbatch.writing.store import Store, create_surely

NEEDED: Final = 256
"""Images on which a setting must agree with the reference."""
SAMPLE: Final = 320
"""Images to try; some may be broken."""
_SEARCH_SHARE: Final = 0.03
"""A search may cost this share of the expected run."""
_WORTH_IT: Final = 1.03
"""A setting must be so much faster than the reference; less may be chance."""
_KEPT: Final = "_cvbatch/setting.json"


@dataclass(frozen=True, slots=True)
class Setting:
    """What decides between speed and the last digit."""

    precision: str
    scaled_decode: bool = False


REFERENCE: Final = Setting("fp32")


@dataclass(frozen=True, slots=True)
class Certificate:
    """Why a run uses its setting."""

    setting: Setting
    reason: str
    candidates: tuple[Mapping[str, Any], ...] = ()
    """Each setting that was tried: its rates and its agreement with the reference, by alias."""

    def to_json(self) -> dict[str, Any]:
        """Plain data for the run record."""
        return asdict(self)

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Certificate:
        """The inverse of `to_json`."""
        return Certificate(Setting(**data["setting"]), data["reason"], tuple(data["candidates"]))

    @property
    def measured_enough(self) -> bool:
        """Whether it speaks for other images, too."""
        return bool(self.candidates) and all(each["images"] >= NEEDED for each in self.candidates)

    def rates(self) -> Mapping[str, float] | None:
        """Measured `decode_per_core` and `predict` images per second of the setting, if it was measured."""
        return next((each["rates"] for each in self.candidates if each["setting"] == asdict(self.setting)), None)


def fixed(compute: ComputeConfig, models: Sequence[ModelSpec], *, on_gpu: bool) -> Certificate | None:
    """The setting that needs no measuring; None if there is a choice that parity decides."""
    if compute.precision != "auto":
        return Certificate(Setting(compute.precision), "as the job asks")
    if all(model.random for model in models):
        precision = "bf16" if on_gpu or cpu_has_bf16() else "fp32"
        return Certificate(Setting(precision, _may_scale(compute, models)), "parity: not applicable, random weights")
    return None


def candidates(compute: ComputeConfig, models: Sequence[ModelSpec], *, on_gpu: bool) -> list[Setting]:
    """The reference and everything that may be faster."""
    precisions = ["fp32"]
    if not all(model.kind == "python" for model in models):  # such a model decides for itself
        precisions += ["bf16", "fp16"] if on_gpu else ["bf16"] if cpu_has_bf16() else []
    scaled = [False, True] if _may_scale(compute, models) else [False]
    return [Setting(precision, each) for precision in precisions for each in scaled]


def worth_searching(rows: int, settings: Sequence[Setting]) -> bool:
    """Whether a search costs little against the run itself."""
    return len(settings) > 1 and SAMPLE * len(settings) <= _SEARCH_SHARE * rows


def choose(measured: Sequence[Mapping[str, Any]]) -> Certificate:
    """Take the fastest setting whose answers agree with the reference.

    Args:
        measured: For each setting `{setting, images, rates, agreement, passed}`; the reference comes first.
    """
    reference = measured[0]
    best = max((each for each in measured if each["passed"]), key=lambda each: each["rates"]["together"])
    if reference["images"] < NEEDED:
        reason = f"the reference: a faster setting needs {NEEDED} good images to agree on, got {reference['images']}"
        return Certificate(REFERENCE, reason, tuple(measured))
    if best["rates"]["together"] < _WORTH_IT * reference["rates"]["together"]:
        best = reference
    reason = f"the fastest of {len(measured)} settings that agrees with fp32 on {best['images']} images of the run"
    return Certificate(Setting(**best["setting"]), reason, tuple(measured))


def kept(store: Store) -> Certificate | None:
    """The setting that an earlier start of this run chose; it must stay."""
    try:
        return Certificate.from_json(json.loads(store.read(_KEPT)))
    except FileNotFoundError:
        return None


def keep(store: Store, certificate: Certificate) -> Certificate:
    """Make this the setting of the run; if another start was faster, theirs is returned."""
    create_surely(store, _KEPT, json.dumps(certificate.to_json()).encode())
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
            "processor": processor(),
            "threads": threads,
            "models": [{**model.to_json(), "weights_path": None, "alias": None} for model in models],
            "versions": versions(),
        }
        digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        self._path = home / "cvbatch" / "settings" / f"{digest}.json"

    def load(self) -> Certificate | None:
        """The certificate of an earlier run on this machine."""
        try:
            found = Certificate.from_json(json.loads(self._path.read_text()))
        except (OSError, ValueError, KeyError):
            return None
        return Certificate(found.setting, f"{found.reason}, as measured before", found.candidates)

    def save(self, certificate: Certificate) -> None:
        """Keep a certificate for the next run."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._path.with_suffix(f".{os.getpid()}")
        temporary.write_text(json.dumps(certificate.to_json()))
        temporary.replace(self._path)


def cpu_has_bf16() -> bool:
    """Whether this machine's processor computes with bfloat16 at full speed."""
    return "avx512_bf16" in _cpuinfo()


def _may_scale(compute: ComputeConfig, models: Sequence[ModelSpec]) -> bool:
    return compute.scaled_decode != "off" and enough(model.view for model in models) is not None


def processor() -> str:
    """Name of this machine's processor."""
    named: Iterator[str] = (match.group(1) for match in re.finditer(r"model name\s*: (.*)", _cpuinfo()))
    return next(named, platform.processor() or platform.machine())


def _cpuinfo() -> str:
    try:
        return Path("/proc/cpuinfo").read_text()
    except OSError:
        return ""
