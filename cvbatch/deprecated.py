"""Old import paths and names of version 0.1, which work for one more version and warn.

Importing a module by its old path gives the module at its new path and a `DeprecationWarning`. So does an old name of a
public module. Nothing in this package uses the old paths and names, so this module can be deleted as a whole.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace
from typing import Any, Final

_PREFIX: Final = "cvbatch."
_PACKAGES: Final = frozenset({"commands", "compute", "writing"})
"""Packages that no longer exist."""
_REMOVAL_NOTICE: Final = "; the old path goes with the next version"
_NAME_REMOVAL_NOTICE: Final = "; the old name goes with the next version"
MOVED: Final = {
    "caches": "system.cache_files",
    "commands": "cli.commands",
    "commands.clusters": "cli.cluster_commands",
    "commands.common": "cli.common",
    "commands.globs": "cli.globs",
    "commands.looking": "cli.inspect_commands",
    "commands.runs": "cli.run_commands",
    "complaints": "config.error_messages",
    "compute.address": "engine.address",
    "compute.agreement": "tuning.parity",
    "compute.answering": "tuning.benchmark",
    "compute.choosing": "engine.choose_settings",
    "compute.cluster": "engine.startup",
    "compute.decode_stage": "stages.decode",
    "compute.engine": "engine.ray_engine",
    "compute.files": "engine.weight_transfer",
    "compute.host": "engine.host_checks",
    "compute.kills": "engine.oom_kills",
    "compute.limits": "engine.budget",
    "compute.memory": "engine.memory",
    "compute.nodes": "engine.nodes",
    "compute.pieces": "stages.unit_predictor",
    "compute.predict_stage": "stages.predict",
    "compute.remote": "engine.ray_tasks",
    "compute.settings": "tuning.certificate",
    "compute.sizing": "engine.resource_plan",
    "compute.stages": "engine.dataflow",
    "compute.stream": "engine.file_writer",
    "compute.trouble": "engine.ray_errors",
    "compute.tuning": "tuning.search",
    "compute.watchdog": "stages.watchdog",
    "console": "results.console",
    "container": "system.control_group",
    "draw": "results.draw",
    "estimate": "runs.estimate",
    "images.jpeg_beside": "images.jpeg_metadata",
    "job_file": "config.job_file",
    "job_paths": "config.job_paths",
    "locations": "storage.local_paths",
    "machine": "system.cpu",
    "models.cam": "inference.torch.class_activation_maps",
    "models.checkpoint": "inference.torch.checkpoint",
    "models.classifier": "inference.torch.classifier",
    "models.compiled": "inference.torch.aot_compile",
    "models.detector": "inference.torch.detector",
    "models.device_decode": "inference.torch.gpu_decode",
    "models.generate": "inference.torch.generate",
    "models.lite0": "inference.torch.efficientnet_lite0",
    "models.loading": "inference.loading",
    "models.memory": "inference.torch.malloc",
    "models.network": "inference.network",
    "models.packages": "inference.compiled_packages",
    "models.predictor": "inference.predictor",
    "models.protocol": "inference.python.protocol",
    "models.python_loading": "inference.python.loading",
    "models.python_network": "inference.python.network",
    "models.registry": "models.resolve",
    "models.resampling": "inference.torch.resize",
    "models.seeding": "inference.torch.seeding",
    "models.segmenter": "inference.torch.segmenter",
    "models.slim_torchvision": "inference.torch.fast_import",
    "models.tensors": "inference.torch.tensors",
    "models.torch_loading": "inference.torch.loading",
    "models.torchvision_network": "inference.torch.torchvision_models",
    "models.unlocked": "inference.torch.aot_runner",
    "models.validity": "tasks.output_checks",
    "models.weight_formats": "inference.torch.weight_formats",
    "overrides": "config.overrides",
    "passes": "runs.passes",
    "pixels": "images.arrow_pixels",
    "planning.progress": "planning.listing_checkpoint",
    "predictions": "results.predictions",
    "progress": "results.progress",
    "quantities": "config.types",
    "record": "runs.run_record",
    "replacing": "runs.recompute",
    "sections": "config.compute",
    "session": "runs.attempt",
    "setting": "inference.settings",
    "sources.archives.samples": "sources.archives.webdataset",
    "sources.blobs": "sources.fetch.blob",
    "sources.carrying": "sources.extra_columns",
    "sources.connections": "sources.fetch.connections",
    "sources.fetching": "sources.fetch.plan_rows",
    "sources.files": "sources.local_files",
    "sources.http": "sources.fetch.http",
    "sources.manifests": "sources.manifest",
    "sources.objects": "sources.bucket",
    "sources.outputs": "sources.output_folders",
    "sources.patterns": "sources.glob",
    "sources.reader": "sources.fetch.container_reader",
    "sources.remote": "sources.fetch.prefetch",
    "sources.several": "sources.multiple",
    "sources.targets": "sources.fetch.url_policy",
    "sources.walking": "sources.bucket_walk",
    "storage.access": "storage.s3_access",
    "storage.exact": "storage.unusual_keys",
    "storage.failures": "storage.error_mapping",
    "storage.hosts": "storage.http_hosts",
    "storage.interrupt": "storage.interruptible",
    "storage.keeping": "storage.download_cache",
    "storage.patience": "storage.retry",
    "storage.places": "storage.location",
    "storage.probes": "storage.capabilities",
    "storage.reach": "storage.fetch_options",
    "storage.readers": "storage.range_reader",
    "streams": "system.standard_streams",
    "submit.begin": "submit.entrypoint",
    "submit.workdir": "submit.package",
    "summary": "results.summary",
    "supervise": "runs.supervisor",
    "tasks.columns": "tasks.arrow",
    "versions": "system.versions",
    "views": "images.preprocess",
    "writing.claims": "output.create_claims",
    "writing.datasets": "output.arrow_dataset",
    "writing.disk": "output.disk_space",
    "writing.exclusive": "output.exclusive_create",
    "writing.files": "output.data_files",
    "writing.holder": "output.lease",
    "writing.local_store": "output.local_store",
    "writing.log": "output.commit_log",
    "writing.manifest": "output.manifest",
    "writing.object_store": "output.object_store",
    "writing.ranges": "output.row_ranges",
    "writing.records": "output.log_records",
    "writing.snapshots": "output.checkpoints",
    "writing.store": "output.store",
    "writing.verify": "results.verify",
}
"""Old path to new path, without `cvbatch.`."""
RENAMED: Final = {
    "cvbatch.errors": {"attempt": "capture_row_error", "caught": "try_call"},
    "cvbatch.job_file": {"job_with": "build_job"},
    "cvbatch.pipeline": {"Watcher": "RunObserver"},
    "cvbatch.views": {
        "Placed": "CropGeometry",
        "SMOOTH": "GPU_INTERPOLATIONS",
        "apply": "apply_view",
        "check": "check_resized_pixels",
        "enough": "compute_min_decode_side",
        "fits": "can_resize_whole",
        "placed": "compute_crop_geometry",
        "size_of": "compute_output_size",
        "to_original": "boxes_to_original",
    },
}
"""Old names of public modules, by the module's path in version 0.1."""


class _OldPath(ModuleType):
    """A module at its old path, which has the names of the module at its new path."""

    def __init__(self, name: str, new_path: str) -> None:
        super().__init__(name, f"Moved to {new_path}.")
        self.__path__: list[str] = []
        self._new_path = new_path

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        module = import_module(self._new_path)
        new_name = RENAMED.get(self.__name__, {}).get(name)
        if new_name is None:
            return getattr(module, name)
        _warn_renamed(f"{self.__name__}.{name}", f"{self._new_path}.{new_name}", stacklevel=3)
        return getattr(module, new_name)


class _OldPathLoader(Loader):
    def __init__(self, new_path: str) -> None:
        self._new_path = new_path

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _OldPath(spec.name, self._new_path)

    def exec_module(self, module: ModuleType) -> None:
        """Run nothing: the module has no code of its own."""


class OldPathFinder(MetaPathFinder):
    """Finds the modules of `MOVED`. It is the last finder, so modules that exist come first."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """A spec for an old path, with a warning that names the new one; None for any other name."""
        if not fullname.startswith(_PREFIX):
            return None
        old = fullname.removeprefix(_PREFIX)
        if old in MOVED:
            new_path = _PREFIX + MOVED[old]
            # frames of the import system do not count
            warnings.warn(f"{fullname} is {new_path} now{_REMOVAL_NOTICE}", DeprecationWarning, stacklevel=2)
            return ModuleSpec(fullname, _OldPathLoader(new_path), is_package=True)
        if old in _PACKAGES:
            return ModuleSpec(fullname, _OldPathLoader(_PREFIX.rstrip(".")), is_package=True)
        return None


def install_old_paths() -> None:
    """Make the old paths importable; a second call changes nothing."""
    if not any(isinstance(finder, OldPathFinder) for finder in sys.meta_path):
        sys.meta_path.append(OldPathFinder())


def get_moved_name(old_module: str, name: str, new_module: str) -> Any:
    """A name that has moved out of a module whose path is that of a package now, with a warning.

    Args:
        old_module: Such as `cvbatch.config`.
        name: The requested name.
        new_module: The module that has it now.

    Raises:
        AttributeError: The new module has no such name.
    """
    module = import_module(new_module)
    if name.startswith("_") or not hasattr(module, name):
        raise AttributeError(f"module {old_module!r} has no attribute {name!r}")
    message = f"{old_module}.{name} is {new_module}.{name} now{_REMOVAL_NOTICE}"
    warnings.warn(message, DeprecationWarning, stacklevel=3)
    return getattr(module, name)


def renamed_names(module: str) -> Callable[[str], Any]:
    """A module's `__getattr__` that gives the names of `RENAMED` with a warning.

    Args:
        module: A module that is still at its old path.
    """

    def get_renamed_name(name: str) -> Any:
        new_name = RENAMED[module].get(name)
        if new_name is None:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        _warn_renamed(f"{module}.{name}", f"{module}.{new_name}", stacklevel=3)
        return getattr(sys.modules[module], new_name)

    return get_renamed_name


def renamed_attributes(owner: str, renamed: dict[str, str]) -> Callable[[Any, str], Any]:
    """A class's `__getattr__` that gives renamed attributes with a warning.

    Args:
        owner: Name of the class.
        renamed: Old name to new name.
    """

    def get_renamed_attribute(instance: Any, name: str) -> Any:
        if name not in renamed:
            raise AttributeError(f"{owner!r} object has no attribute {name!r}")
        _warn_renamed(f"{owner}.{name}", f"{owner}.{renamed[name]}", stacklevel=3)
        return getattr(instance, renamed[name])

    return get_renamed_attribute


def adapt_observer(observer: Any) -> Any:
    """An observer of a run, also if it has the method names of version 0.1, with a warning then."""
    if hasattr(observer, "on_phase") or not hasattr(observer, "doing"):
        return observer
    _warn_renamed("an observer's doing, planned and committed", "on_phase, on_planned and on_committed", stacklevel=4)
    return SimpleNamespace(on_phase=observer.doing, on_planned=observer.planned, on_committed=observer.committed)


def _warn_renamed(old: str, new: str, *, stacklevel: int) -> None:
    verb = "are" if " and " in old else "is"
    warnings.warn(f"{old} {verb} {new} now{_NAME_REMOVAL_NOTICE}", DeprecationWarning, stacklevel=stacklevel)
