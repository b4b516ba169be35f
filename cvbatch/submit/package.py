"""The folder that is sent to a cluster: our package, the job file and the user's modules; never an image."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import yaml

import cvbatch
from cvbatch.config.job import PYTHON, Job, ModelConfig
from cvbatch.errors import ModelError
from cvbatch.models.own_files import named_files, option_files
from cvbatch.models.own_modules import imports_of_file, sources_of, string_literals
from cvbatch.sources.suffixes import IMAGE_SUFFIXES
from cvbatch.storage.local_paths import to_local_path

JOB_FILE: Final = "job/job.yaml"
"""Only the user's modules and their files are beside it, so that they hide no other module."""
_ENTRYPOINT_FILE: Final = "start.py"
_REQUIREMENTS_FILE: Final = "needs.txt"
_PYTHON_VERSION_FILE: Final = "python.txt"
"""The file with the Python version that the job was submitted with."""
_PACKAGE: Final = Path(cvbatch.__file__).parent
_IMAGE_SUFFIXES: Final = frozenset({".pyc", *(f".{suffix}" for suffix in IMAGE_SUFFIXES)})
"""Suffixes of files that are not sent, unless they are named."""
_MAX_BYTES: Final = 200 << 20
"""Ray accepts about 500 MB at most, and sends them to each machine."""


def build_working_dir(job: Job, folder: Path, modules: Path) -> None:
    """Fill a folder with everything that a cluster needs for a job.

    Args:
        job: The job.
        folder: An empty folder.
        modules: Folder that `python:` models are imported from.

    Raises:
        ModelError: A module that the job names is missing or cannot be read, or the files are too large.
    """
    shutil.copytree(_PACKAGE, folder / _PACKAGE.name, ignore=_ignored_names)
    shutil.copyfile(_PACKAGE / "submit" / "entrypoint.py", folder / _ENTRYPOINT_FILE)
    about = metadata.distribution("cvbatch")
    # so that the run record has the version of the package that was sent
    information = folder / f"cvbatch-{about.version}.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(about.read_text("METADATA") or "", encoding="utf-8")
    (folder / _REQUIREMENTS_FILE).write_text("\n".join(_requirements_without_extras(about)), encoding="utf-8")
    (folder / _PYTHON_VERSION_FILE).write_text(platform.python_version(), encoding="utf-8")
    job_folder = folder / Path(JOB_FILE).parent
    job_folder.mkdir()
    (folder / JOB_FILE).write_text(yaml.safe_dump(_portable_job(job), allow_unicode=True), encoding="utf-8")
    own = [model for model in job.models if model.model.startswith(PYTHON)]
    for name in {_module_of_model(model) for model in own}:
        if not name.isidentifier() or not any(sources_of(modules, name)):
            raise ModelError(f"{PYTHON}{name}: expected {name}.py or {name}/ in {modules}, beside the job file")
        try:
            _copy_own_module(modules, name, job_folder)
        except OSError as error:  # such as circular links
            raise ModelError(f"{PYTHON}{name}: cannot be copied: {str(error)[:200]}") from None
    for model in own:
        for name in named_files(model.options):
            _copy_named_data(modules, name, job_folder)
    if (size := sum(file.stat().st_size for file in job_folder.rglob("*"))) > _MAX_BYTES:
        raise ModelError(
            f"the files of own models have {size >> 20} MB, expected at most {_MAX_BYTES >> 20} MB to send: put large "
            "files where the cluster sees them, and give their absolute paths"
        )


def _portable_job(job: Job) -> dict[str, Any]:
    """The job file with absolute paths, so that it means the same in any folder."""
    content = job.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    for section, key in (
        (content["source"], "uri"),
        (content["output"], "uri"),
        *((model, key) for model in content["models"] for key in ("checkpoint", "categories", "prompts")),
    ):
        if isinstance(section.get(key), str):
            section[key] = to_local_path(section[key]) or section[key]
    if isinstance(uris := content["source"]["uri"], list):
        content["source"]["uri"] = [to_local_path(uri) or uri for uri in uris]
    return content


def _requirements_without_extras(about: metadata.Distribution) -> Iterator[str]:
    return (line for line in about.requires or [] if "extra ==" not in line)


def _module_of_model(model: ModelConfig) -> str:
    return model.model.removeprefix(PYTHON).partition(":")[0].partition(".")[0]


def _ignored_names(folder: str, names: Sequence[str]) -> set[str]:
    """Names in a folder that are not sent: images, and hidden files such as `.env` and `.git`."""
    return {
        name
        for name in names
        if name.startswith(".") or name == "__pycache__" or Path(name).suffix.lower() in _IMAGE_SUFFIXES
    }


def _copy_own_module(modules: Path, name: str, folder: Path) -> None:
    """Copy a module or package, the modules beside it that it imports, and the files beside it that its text names."""
    for source in sources_of(modules, name):
        target = folder / source.name
        if target.exists():
            return
        if source.is_dir():
            shutil.copytree(source, target, ignore=_ignored_names)
        else:
            shutil.copyfile(source, target)
        for file in [source] if source.is_file() else source.rglob("*.py"):
            if file.suffix != ".py":
                continue
            for imported in {module.partition(".")[0] for module in imports_of_file(file)}:
                if imported not in sys.stdlib_module_names and imported != _PACKAGE.name:
                    _copy_own_module(modules, imported, folder)
            for text in string_literals(file):
                if Path(text).suffix and (modules / text).is_file():
                    _copy_named_data(modules, text, folder)


def _copy_named_data(modules: Path, text: str, folder: Path) -> None:
    """Copy the file or folder that a text names below the job file's folder; hidden files are not copied."""
    if os.path.isabs(text) or ".." in Path(text).parts or any(part.startswith(".") for part in Path(text).parts):
        return
    for name, path in option_files(text, str(modules)):
        target = folder / name
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
