"""Weights of the user for a network that is known by its name."""

from __future__ import annotations

from pathlib import Path

from cvbatch.errors import ModelError
from cvbatch.models import weights
from cvbatch.storage.location import Location, is_object_uri, redact_secrets
from cvbatch.storage.options import StorageOptions


def find_own_checkpoint(checkpoint: str, options: StorageOptions, sha256: str | None) -> tuple[str, str]:
    """Find a file with weights, on this machine or in a bucket.

    Args:
        checkpoint: As in the job.
        options: How to reach an object.
        sha256: Expected first digits of its hash.

    Returns:
        Its path or URI, and its sha256.

    Raises:
        ModelError: There is no such file, or its hash differs.
    """
    if is_object_uri(checkpoint):
        location = Location.from_uri(checkpoint, options)
        digest = weights.fetch_own_checkpoint(location)
        return location.uri, weights.check_hash_prefix(digest, sha256 or "", f"checkpoint: {location}")
    if "://" in checkpoint:
        redacted = redact_secrets(checkpoint)
        raise ModelError(f"checkpoint: expected a file on this machine or in a bucket, got {redacted}: copy it there")
    path = Path(checkpoint).expanduser()
    if not path.is_file():
        raise ModelError(f"checkpoint: there is no file {checkpoint}")
    return str(path.resolve()), weights.check_file_hash(path, sha256 or "")
