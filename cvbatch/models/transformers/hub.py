"""Models of the hub, by its own client and in its own cache."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from cvbatch.config.model_files import HUGGING_FACE
from cvbatch.errors import ModelError, try_call
from cvbatch.models.download import Report
from cvbatch.models.transformers.files import ModelFolder
from cvbatch.system.extras import import_extra

_DESCRIPTION: Final = ("*.json", "*.txt", "*.model", "README.md")
"""With the words of tokenizers."""
_PREFIX: Final = f"{HUGGING_FACE}:"
_BELOW: Final = ("*/*",)
"""Files in folders of a repository are other forms of the model."""
_WEIGHTS: Final = ".safetensors"


def find_on_hub(
    name: str, revision: str | None, *, prefix: str = _PREFIX, fetch: bool, report: Report | None
) -> ModelFolder:
    """Find a model of the hub, and fetch its description.

    Args:
        name: `OWNER/NAME`, or `NAME`.
        revision: Branch, tag or commit; None is the main branch.
        prefix: Of names of the hub in a job.
        fetch: Whether the hub may be asked; if not, only its cache is.
        report: Called with what is waited for.

    Raises:
        ModelError: There is no such model, it may not be read, or the hub cannot be reached.
        UsageError: A package is missing.
    """
    hub = import_extra("huggingface_hub", "transformers", f"{prefix}{name}")
    title = f"{prefix}{name}" + (f"@{revision}" if revision else "")

    def get_files(patterns: Sequence[str], commit: str | None) -> Path:
        folder = try_call(
            lambda: hub.snapshot_download(
                name,
                revision=commit,
                allow_patterns=list(patterns),
                ignore_patterns=list(_BELOW),
                local_files_only=not fetch,
            )
        )
        if isinstance(folder, Exception):
            raise ModelError(_explain_error(title, prefix, folder))
        return Path(folder)

    def get_weights(files: Sequence[str]) -> None:
        if not all((path / file).is_file() for file in files):
            if report is not None:
                report(f"getting the weights of {title}")
            get_files(files, path.name)

    if report is not None:
        report(f"getting {title}")
    path = get_files(_DESCRIPTION, revision)
    names = {file.name for file in path.iterdir()}
    if not any(file.endswith(_WEIGHTS) for file in names):
        listed = try_call(lambda: hub.list_repo_files(name, revision=path.name)) if fetch else FileNotFoundError()
        if isinstance(listed, Exception):
            raise ModelError(_explain_error(title, prefix, listed))
        names |= {file for file in listed if "/" not in file}
    return ModelFolder(title, name, path, path.name, sorted(names), get_weights)


def _explain_error(title: str, prefix: str, error: Exception) -> str:
    """Say in one line why the client of the hub gave up."""
    from huggingface_hub import errors

    kind = prefix.partition(":")[0]
    match error:
        case errors.HFValidationError():
            return f"{title}: expected {prefix}OWNER/NAME of the hub, or {kind}:./FOLDER, and there is no such folder"
        case errors.GatedRepoError():
            return f"{title} is gated: accept its terms on its page, and log in with `hf auth login`"
        case errors.RepositoryNotFoundError():
            return (
                f"{title}: the hub has no such model, or it is private (`hf auth login`), and there is no such folder"
            )
        case errors.RevisionNotFoundError():
            return f"{title}: the hub has the model, but no such revision"
        case errors.HfHubHTTPError():
            return f"{title}: the hub does not give it: {' '.join(str(error).split())[:200]}"
    name = title.removeprefix(prefix).partition("@")[0]
    return (
        f"{title} is not on this machine, and the hub cannot be reached: get it where there is internet "
        f"(`hf download {name}`), copy its folder, and give {kind}:./FOLDER"
    )
