"""Networks compiled ahead of time for this machine: built once, loaded in a fifth of a second from then on."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from cvbatch.caches import locked, replacing
from cvbatch.models.packages import package
from cvbatch.models.spec import ModelSpec
from cvbatch.models.tensors import DTYPES
from cvbatch.models.unlocked import UnlockedPackage
from cvbatch.setting import Setting

RUNNERS: Final = 8
"""Threads that may run one network at once; on CPUs at least one for each core."""
_EXAMPLES: Final = 4
_MAX_BATCH: Final = 1024
_OPTIONS: Final = {
    "freezing": True,  # weights become constants: batch norms are folded, layouts chosen once
    "cpp.dynamic_threads": True,  # each thread that calls decides how many cores it uses
    "compile_threads": 1,
}


class Compiled:
    """A network that is compiled for inputs of one size, and runs as it is for any other.

    Args:
        module: Placed on its device.
        spec: Whose network it is.
        device: `cpu`, `cuda` or `cuda:N`.
        setting: What it is compiled for.
    """

    def __init__(self, module: nn.Module, spec: ModelSpec, device: str, setting: Setting) -> None:
        assert spec.view.crop is not None, "see compilable"
        self._module, self._size = module, spec.view.crop
        self._device_type = torch.device(device).type
        path = package(spec, setting, torch.cuda.get_device_name(device) if self._device_type == "cuda" else "")
        with locked(path):
            if not path.exists():
                self._build(path, device, setting)
            self._package: Any = self._load(path)

    def __call__(self, batch: Tensor) -> Any:
        """Run a batch: float32, (batch, 3, height, width)."""
        if batch.shape[2:] != self._size:
            return self._module(batch)
        with torch.autocast(self._device_type, enabled=False):  # it is compiled in
            return self._package(batch)

    def _load(self, path: Path) -> Any:
        if self._device_type == "cpu":
            return UnlockedPackage(path, max(RUNNERS, len(os.sched_getaffinity(0))))
        from torch._inductor.package.package import load_package

        return load_package(os.fspath(path), num_runners=RUNNERS)

    def _build(self, path: Path, device: str, setting: Setting) -> None:
        from torch._inductor import aoti_compile_and_package

        example = torch.zeros(_EXAMPLES, 3, *self._size, device=device).to(memory_format=torch.channels_last)
        batch = torch.export.Dim("batch", min=1, max=_MAX_BATCH)
        with replacing(path) as part, torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the compiler's own, about itself
            whole = _AtPrecision(self._module, self._device_type, setting.precision)
            exported = torch.export.export(whole, (example,), dynamic_shapes=({0: batch},))
            aoti_compile_and_package(exported, package_path=os.fspath(part), inductor_configs=dict(_OPTIONS))


class _AtPrecision(nn.Module):
    """Autocast as a part of the network."""

    def __init__(self, module: nn.Module, device_type: str, precision: str) -> None:
        super().__init__()
        self.module, self._device_type, self._dtype = module, device_type, DTYPES[precision]

    def forward(self, batch: Tensor) -> Any:
        if self._dtype == torch.float32:
            return self.module(batch)
        with torch.autocast(self._device_type, self._dtype):
            return self.module(batch)
