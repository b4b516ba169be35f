"""Storing edited files: each is whole or absent, and writing it again changes nothing."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from cvbatch.edits.base import EncodedFile
from cvbatch.edits.keys import refuse_key
from cvbatch.errors import RowError, RunError
from cvbatch.output.disk_space import move_into_place, sync_file, sync_folder
from cvbatch.output.store import open_store
from cvbatch.storage.location import Location

AUDIT_FOLDER: Final = "_audit"
_TEMPORARY: Final = f"{AUDIT_FOLDER}/tmp"
"""Not beside the images: what a killed process leaves must not look like one."""
_NAME_ERRORS: Final = (errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ, errno.ENOTDIR, errno.EISDIR, errno.EEXIST)
"""A name that this place cannot have; all other errors are about the place."""


def store_files(to: Location, files: Sequence[EncodedFile]) -> RowError | None:
    """Store the files of one image, all or none.

    Args:
        to: Where paths begin.
        files: With relative paths. On a disk their content is safe afterwards, and their names are after `sync_names`.

    Returns:
        Why a name cannot be used here; None if all files are stored.

    Raises:
        RunError: The place takes no files, as a full disk.
    """
    if not to.is_local:
        refusals = [refusal for file in files if (refusal := refuse_key(to, file.path)) is not None]
        if refusals:
            return RowError("edit", "NameNotPossible", refusals[0])
        for file in files:
            open_store(to).put_object(file.path, file.data)
        return None
    for number, file in enumerate(files):
        refusal = _store_on_disk(to.uri, file)
        if refusal is not None:
            for stored in files[:number]:
                Path(to.uri, stored.path).unlink(missing_ok=True)
            return RowError("edit", "NameNotPossible", refusal)
    return None


def sync_names(to: Location, paths: Iterable[str]) -> None:
    """Make the names of stored files safe, too: many at once, since a folder has the names of many.

    Args:
        to: As for `store_files`.
        paths: Of the files.
    """
    if to.is_local:
        for folder in {Path(to.uri, path).parent for path in paths}:
            sync_folder(folder)


def discard_files(to: Location, paths: Sequence[str]) -> None:
    """Delete what an earlier attempt may have stored of an image that is in error now.

    Args:
        to: As for `store_files`.
        paths: Of the files; a place without the right to delete keeps them.
    """
    for path in paths:
        if to.is_local:
            with contextlib.suppress(OSError):
                Path(to.uri, path).unlink()
        elif refuse_key(to, path) is None:
            open_store(to).delete_object(path)


def delete_temporary_files(to: Location) -> None:
    """Delete what killed processes have left; no process may be storing files."""
    if to.is_local:
        shutil.rmtree(os.path.join(to.uri, _TEMPORARY), ignore_errors=True)


def _store_on_disk(root: str, file: EncodedFile) -> str | None:
    """Returns why the name is not possible."""
    target, folder = Path(root, file.path), Path(root, _TEMPORARY)
    temporary = folder / uuid.uuid4().hex
    try:
        folder.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(file.data)
        sync_file(temporary)
        target.parent.mkdir(parents=True, exist_ok=True)
        move_into_place(str(temporary), target)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        if error.errno in _NAME_ERRORS:
            return f"{file.path}: {error.strerror}"
        raise RunError(f"{root} cannot be written: {error.strerror or error}") from error
    return None
