"""The end of a run: manifest, clean-up and `_SUCCESS` (the finishing sequence of the protocol)."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from cvbatch.writing.log import Log
from cvbatch.writing.records import DataFile, State, epoch_of
from cvbatch.writing.store import Store

DATA = "data"
SUCCESS = "_SUCCESS"
_FOLDER = "_cvbatch"
_PREFIX = f"{_FOLDER}/manifest-"


def manifest_name(seq: int) -> str:
    """Name of the manifest that belongs to the `final` with this number."""
    return f"{_PREFIX}{seq:010d}.json"


def latest_manifest(store: Store) -> tuple[int, list[DataFile]] | None:
    """The highest-numbered manifest: the number of its `final` and its files."""
    names = [name for name in store.sizes(_FOLDER) if name.startswith(_PREFIX)]
    if not names:
        return None
    content = json.loads(store.read(names[-1]))
    return content["final"], [DataFile.from_json(data) for data in content["files"]]


def success(store: Store) -> dict[str, Any] | None:
    """What `_SUCCESS` says, or None if it is not there."""
    try:
        content: dict[str, Any] = json.loads(store.read(SUCCESS))
    except FileNotFoundError:
        return None
    return content


def finished(store: Store, state: State) -> bool:
    """Whether the last record is `final`, its manifest exists and `_SUCCESS` names it."""
    name = manifest_name(state.next_seq - 1)
    return state.final and name in store.sizes(_FOLDER) and success(store) == {"manifest": name}


def finish(log: Log) -> bool:
    """Freeze the run: `final`, then its tail.

    Returns:
        False if another start opened the run meanwhile and it is theirs to finish.
    """
    log.finalise()
    return finish_tail(log)


def finish_tail(log: Log) -> bool:
    """Everything after `final`; may be repeated by anyone, without `open`.

    Returns:
        False if the log goes on after this `final`.
    """
    store, state = log.store, log.state
    final = state.next_seq - 1
    name = manifest_name(final)
    store.create(name, _manifest(final, state.files.values()))
    _collect_strays(store, state)
    if not log.read().final or log.state.next_seq - 1 != final:
        return False
    mark = json.dumps({"manifest": name}).encode()
    while not store.create(SUCCESS, mark):
        if success(store) == {"manifest": name}:
            break
        store.delete(SUCCESS)
    if log.read().next_seq - 1 != final:
        if success(store) == {"manifest": name}:
            store.delete(SUCCESS)
        return False
    return True


def _manifest(final: int, files: Iterable[DataFile]) -> bytes:
    """A pure function of the log up to `final`, so that writing it twice is harmless."""
    listed = [file.to_json() for file in sorted(files, key=lambda file: file.ranges)]
    return json.dumps({"final": final, "files": listed}).encode()


def _collect_strays(store: Store, state: State) -> None:
    """Delete data files that no record accepted; those of newer epochs are not ours to judge."""
    for path in store.sizes(DATA):
        if path not in state.files and epoch_of(path) <= state.epoch:
            store.delete(path)
