"""The end of a run: manifest, clean-up and `_SUCCESS` (the finishing sequence of the protocol)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from cvbatch.errors import CorruptionError, FencedError, HaltError, OutputError
from cvbatch.output.commit_log import CommitLog
from cvbatch.output.lease import describe_holder
from cvbatch.output.log_records import DataFile, RunState, epoch_of_path
from cvbatch.output.row_ranges import RowRange
from cvbatch.output.store import Store, create_with_retries
from cvbatch.system.formats import RecordFormat

DATA_FOLDER = "data"
SUCCESS_FILE = "_SUCCESS"
_FOLDER = "_cvbatch"
_MAX_NAMED = 3
_PREFIX = f"{_FOLDER}/manifest-"
_MANIFEST: Final = RecordFormat("manifest", dict[str, Any])
_MARK: Final = RecordFormat("mark of a finished run", dict[str, Any])


def manifest_name(seq: int) -> str:
    """Name of the manifest that belongs to the `final` with this number."""
    return f"{_PREFIX}{seq:010d}.json"


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a finished run consists of."""

    final: int
    """Number of its `final` record."""
    files: list[DataFile]
    """In the order of their rows."""
    removed: list[RowRange]
    """Rows whose image is gone from the source."""
    moves: tuple[Mapping[str, Any], ...] = ()
    """Plan parts that tell where the source has moved, oldest first."""


def latest_manifest(store: Store) -> Manifest | None:
    """The highest-numbered manifest, or None if there is none yet."""
    names = [name for name in store.list_sizes(_FOLDER) if name.startswith(_PREFIX)]
    if not names:
        return None
    content = _MANIFEST.decode_record(store.read_object(names[-1]), f"{store.root}/{names[-1]}")
    removed = [(low, high) for low, high in content.get("removed", ())]
    files = [DataFile.from_json(data) for data in content["files"]]
    return Manifest(content["final"], files, removed, tuple(content.get("moves", ())))


def read_success_mark(store: Store) -> str | None:
    """Name of the manifest that `_SUCCESS` names; empty if it names none, None if it is not there."""
    try:
        content = _MARK.decode_record(store.read_object(SUCCESS_FILE), f"{store.root}/{SUCCESS_FILE}")
    except FileNotFoundError:
        return None
    except CorruptionError:
        return ""
    return str(content.get("manifest", ""))


def is_finished(store: Store, state: RunState) -> bool:
    """Whether the last record is `final`, its manifest exists and `_SUCCESS` names it."""
    name = manifest_name(state.next_seq - 1)
    return state.is_final and name in store.list_sizes(_FOLDER) and read_success_mark(store) == name


def check_can_reopen(store: Store, *, replaces: bool, manifest_only: bool = False) -> None:
    """Refuse to go on with a run where that takes a right to delete, and there is none; before it is opened.

    Args:
        store: The output.
        replaces: Whether files will be replaced by others.
        manifest_only: Whether only the manifest need be right at the end.

    Raises:
        OutputError: A run that is finished has its mark, and replaced files have to go.
    """
    if not manifest_only and (replaces or read_success_mark(store) is not None) and not store.can_delete():
        raise OutputError(
            f"{store.root}: to change rows, or to add to a finished run, takes the right to delete, and this job does "
            "not have it; start it with that right, or with --manifest-only, which leaves replaced files to an operator"
        )


def withdraw_success_mark(store: Store, *, manifest_only: bool) -> None:
    """Take back the promise of `_SUCCESS`; the run must be open.

    Raises:
        HaltError: If it may not be deleted, unless only the manifest need be right: then it names none any more.
    """
    if store.delete_object(SUCCESS_FILE) or read_success_mark(store) is None:
        return
    if not manifest_only:
        raise HaltError(
            f"{store.root}/{SUCCESS_FILE} must go before this run can go on, and this job may not delete it"
        )
    store.put_object(SUCCESS_FILE, _MARK.encode_record({"manifest": ""}))


def finish_run(log: CommitLog, *, manifest_only: bool = False) -> None:
    """Freeze the run: `final`, then its tail; see `complete_finish`.

    Raises:
        FencedError: If another start opened the run meanwhile; it is theirs to finish.
        HaltError: If something must go that may not be deleted.
    """
    log.append_final()
    if not complete_finish(log, manifest_only=manifest_only):
        raise FencedError(f"{log.store.root}: another start has taken over ({describe_holder(log.state)})")


def complete_finish(log: CommitLog, *, manifest_only: bool = False) -> bool:
    """Everything after `final`; may be repeated by anyone, without `open`.

    Args:
        log: Of the run.
        manifest_only: Whether files that may not be deleted stay beside those of the manifest. Then `_SUCCESS` says
            so, and who reads the folder without cvbatch must wait until an operator has removed them.

    Returns:
        False if the log goes on after this `final`.

    Raises:
        HaltError: If something must go that may not be deleted: `_SUCCESS` is the promise that nothing else is there.
    """
    store, state = log.store, log.state
    final = state.next_seq - 1
    name = manifest_name(final)
    create_with_retries(store, name, _build_manifest(final, state))
    left = _collect_orphan_files(store, state)
    if not log.refresh().is_final or log.state.next_seq - 1 != final:
        return False
    if manifest_only and (left or read_success_mark(store) == ""):
        store.put_object(SUCCESS_FILE, _MARK.encode_record({"manifest": name, "to_remove": left}))
        return True
    if left:
        some = ", ".join(left[:_MAX_NAMED]) + (f" and {len(left) - _MAX_NAMED} more" * (len(left) > _MAX_NAMED))
        raise HaltError(
            f"{store.root}: every row is there, but {len(left)} files that no row is in must go, and this job may "
            f"not delete: remove {some} and give the same command again, or give it with --manifest-only "
            "(cvbatch verify lists them)",
            details="\n".join(left),
        )
    mark = _MARK.encode_record({"manifest": name})
    # a mark that names a newer manifest stays: its owner has overtaken this tail and may be gone already
    while not create_with_retries(store, SUCCESS_FILE, mark) and (there := read_success_mark(store)) != name:
        if there is not None and there > name:
            return False
        if not store.delete_object(SUCCESS_FILE):
            raise HaltError(f"{store.root}/{SUCCESS_FILE} is of an older end of this run: remove it, this job may not")
    if log.refresh().next_seq - 1 != final:
        if read_success_mark(store) == name:
            store.delete_object(SUCCESS_FILE)
        return False
    return True


def _build_manifest(final: int, state: RunState) -> bytes:
    """A pure function of the log up to `final`, so that writing it twice is harmless."""
    listed = [file.to_json() for file in sorted(state.files.values(), key=lambda file: file.ranges)]
    content = {"final": final, "files": listed, "removed": list(state.removed)}
    return _MANIFEST.encode_record(content | ({"moves": state.move_parts} if state.move_parts else {}))


def _collect_orphan_files(store: Store, state: RunState) -> list[str]:
    """Delete data files that no record accepted; those of newer epochs and of other origin are not ours to judge.

    Returns:
        Those that may not be deleted.
    """
    left = []
    for path in store.list_sizes(DATA_FOLDER):
        epoch = epoch_of_path(path)
        if path not in state.files and epoch is not None and epoch <= state.epoch and not store.delete_object(path):
            left.append(path)
    return left
