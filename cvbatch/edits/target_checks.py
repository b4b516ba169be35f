"""Whether a place may take edited files: it must be new, and apart from the images and from other outputs."""

from __future__ import annotations

import contextlib
import fnmatch
import itertools
import os
from collections.abc import Iterator, Sequence
from typing import Final

from cvbatch.edits.target import AUDIT_FOLDER
from cvbatch.errors import DeniedError, OutputError, UsageError
from cvbatch.sources.output_folders import STATE, is_output_folder
from cvbatch.storage.local_paths import to_local_path
from cvbatch.storage.location import Location

_ANY_DEPTH: Final = "**"
_BUCKET_PARTS: Final = 3
"""Parts of `scheme://bucket` between the slashes."""


def check_target(to: Location, sources: Sequence[str], run: Location) -> None:
    """Refuse a place where edited files would replace, or be taken for, something else.

    Args:
        to: Where the files shall go.
        sources: Locations of the sources of the run; globs are possible.
        run: The run.

    Raises:
        UsageError: It is in the source or in the run, or one of them is in it.
    """
    place = _parts_of(to.uri)
    for name, uri in (*(("the source", source) for source in sources), ("the run", run.uri)):
        if _may_meet(place, _parts_of(uri)):
            raise UsageError(f"--to {to}: expected a place apart from {name}, {uri}: edited files must not mix with it")


def check_new_target(to: Location) -> None:
    """Refuse a place for a new edit that has files, or that is within another output.

    Raises:
        OutputError: Says which.
    """
    others = [name for name in itertools.islice(_names_in(to), 2) if name != AUDIT_FOLDER]
    if others:
        raise OutputError(f"--to {to} has other files, such as {others[0]}: expected a new or an empty place")
    parts = to.uri.rstrip("/").split("/")
    for length in range(len(parts) - 1, 0 if to.is_local else _BUCKET_PARTS - 1, -1):
        folder = "/".join(parts[:length])
        for output in (folder, f"{folder}/{AUDIT_FOLDER}"):
            if _is_output(Location(output, to.options)):
                raise OutputError(f"--to {to} is in the output {output}: expected a place apart from other outputs")


def _parts_of(uri: str) -> list[str]:
    path = to_local_path(uri)
    return (uri if path is None else os.path.realpath(path)).rstrip("/").split("/")


def _may_meet(place: Sequence[str], source: Sequence[str]) -> bool:
    """Whether one is within the other, where the source may have wildcards."""
    for name, pattern in zip(place, source, strict=False):
        if pattern == _ANY_DEPTH:
            return True
        if name != pattern and not fnmatch.fnmatchcase(name, pattern):
            return False
    return True


def _names_in(to: Location) -> Iterator[str]:
    if to.is_local:
        try:
            with os.scandir(to.uri) as entries:
                yield from (entry.name for entry in entries)
        except FileNotFoundError:
            return
        except OSError as error:
            raise OutputError(f"--to {to} is no folder that can be read: {error.strerror}") from None
    else:
        from cvbatch.storage.buckets import open_bucket  # only buckets need the clients, which import slowly

        prefix = f"{to.key.rstrip('/')}/".removeprefix("/")
        for page in open_bucket(to).list_objects(prefix, one_level=True):
            for name in (*page.folders, *page.objects["key"].to_pylist()):
                yield name.removeprefix(prefix).rstrip("/")


def _is_output(place: Location) -> bool:
    if place.is_local:
        return is_output_folder(os.fsencode(place.uri))
    from cvbatch.storage.buckets import open_bucket

    pages = open_bucket(place).list_objects(f"{place.key}/{STATE}/".removeprefix("/"))
    with contextlib.suppress(DeniedError):  # rights may begin at the place itself
        return any(page.objects.num_rows for page in itertools.islice(pages, 1))
    return False
