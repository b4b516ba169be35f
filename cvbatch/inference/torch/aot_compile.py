"""Networks compiled ahead of time for this machine's cores: compiled once, and loaded from the cache afterwards."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from cvbatch.inference.compiled_packages import compiled_package_path
from cvbatch.inference.settings import InferenceSettings
from cvbatch.inference.torch.aot_runner import UnlockedPackage
from cvbatch.inference.torch.tensors import DTYPES
from cvbatch.inference.torch.torch_compat import compile_package
from cvbatch.models.spec import ModelSpec
from cvbatch.system.cache_files import atomic_write_path, lock_cache_file
from cvbatch.system.control_group import usable_cores

_RUNNERS: Final = 8
"""Threads that may run one network at the same time; at least one per core."""
_EXAMPLES: Final = 4
_MAX_BATCH: Final = 1024


class CompiledNetwork:
    """A network that is compiled for one input size; other sizes run uncompiled.

    Args:
        module: Module on the CPU.
        spec: The model.
        setting: The settings that it is compiled for.
    """

    def __init__(self, module: nn.Module, spec: ModelSpec, setting: InferenceSettings) -> None:
        assert spec.view.crop is not None, "see torch_settings"
        self._module, self._size = module, spec.view.crop
        path = compiled_package_path(spec, setting)
        with lock_cache_file(path):
            if not path.exists():
                self._compile_package(path, setting)
            self._package = UnlockedPackage(path, max(_RUNNERS, usable_cores()))

    def __call__(self, batch: Tensor) -> Any:
        """Run a batch: float32, (batch, 3, height, width)."""
        if batch.shape[2:] != self._size:
            return self._module(batch)
        with torch.autocast("cpu", enabled=False):  # the precision is compiled in
            return self._package(batch)

    def _compile_package(self, path: Path, setting: InferenceSettings) -> None:
        example = torch.zeros(_EXAMPLES, 3, *self._size).to(memory_format=torch.channels_last)
        batch = torch.export.Dim("batch", min=1, max=_MAX_BATCH)
        with atomic_write_path(path) as part, torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the compiler warns about itself
            wrapped = _ModuleAtPrecision(self._module, setting.precision)
            exported = torch.export.export(wrapped, (example,), dynamic_shapes=({0: batch},))
            compile_package(exported, part)


class _ModuleAtPrecision(nn.Module):
    """A module with autocast inside, so that it is compiled, too."""

    def __init__(self, module: nn.Module, precision: str) -> None:
        super().__init__()
        self.module, self._dtype = module, DTYPES[precision]

    def forward(self, batch: Tensor) -> Any:
        if self._dtype == torch.float32:
            return self.module(batch)
        with torch.autocast("cpu", self._dtype):
            return self.module(batch)
