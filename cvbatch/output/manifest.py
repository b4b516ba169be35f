"""The end of a run: it writes the manifest, deletes orphaned files and writes `_SUCCESS`, in this order."""

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
_EVOLVED_MANIFEST: Final = RecordFormat("manifest", dict[str, Any], major=2)
"""Of a run whose models have changed; earlier versions would read its files with the columns of the first plan."""
_MARK: Final = RecordFormat("mark of a finished run", dict[str, Any])


def manifest_name(seq: int) -> str:
    """Object name of the manifest that belongs to the `final` record with this number."""
    return f"{_PREFIX}{seq:010d}.json"


@dataclass(frozen=True, slots=True)
class Manifest:
    """Contents of a finished run."""

    final: int
    """Number of its `final` record."""
    files: list[DataFile]
    """Its data files, sorted by row id."""
    removed: list[RowRange]
    """Rows whose image is no longer in the source."""
    moves: tuple[Mapping[str, Any], ...] = ()
    """Plan parts that record where the source has moved, oldest first."""
    plan_file: str | None = None
    """The plan with the current models, once they have changed."""


def latest_manifest(store: Store) -> Manifest | None:
    """The manifest with the highest number, or None if there is none yet."""
    names = [name for name in store.list_sizes(_FOLDER) if name.startswith(_PREFIX)]
    if not names:
        return None
    content = _EVOLVED_MANIFEST.decode_record(store.read_object(names[-1]), f"{store.root}/{names[-1]}")
    removed = [(low, high) for low, high in content.get("removed", ())]
    files = [DataFile.from_json(data) for data in content["files"]]
    return Manifest(content["final"], files, removed, tuple(content.get("moves", ())), content.get("plan_file"))


def read_success_mark(store: Store) -> str | None:
    """Name of the manifest in `_SUCCESS`; empty if it names none, None if `_SUCCESS` does not exist."""
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
    """Check, before a run is opened, that this job may delete files if the run needs that.

    Args:
        store: The output.
        replaces: Whether the run will replace files.
        manifest_only: Whether files that this job may not delete can stay; only the manifest must be right.

    Raises:
        OutputError: If this job may not delete, and `_SUCCESS` or replaced files must be deleted.
    """
    if not manifest_only and (replaces or read_success_mark(store) is not None) and not store.can_delete():
        raise OutputError(
            f"{store.root}: changing rows, or adding rows to a finished run, requires the right to delete, and this "
            "job does not have it; grant it, or use --manifest-only, which leaves replaced files to an operator"
        )


def withdraw_success_mark(store: Store, *, manifest_only: bool) -> None:
    """Delete `_SUCCESS`; the run must be open.

    With `manifest_only`, a `_SUCCESS` that this job may not delete is overwritten, so that it names no manifest.

    Raises:
        HaltError: If this job may not delete it, without `manifest_only`.
    """
    if store.delete_object(SUCCESS_FILE) or read_success_mark(store) is None:
        return
    if not manifest_only:
        raise HaltError(
            f"{store.root}/{SUCCESS_FILE} must be deleted before this run can continue, and this job may not delete; "
            "remove it, and run the same command again"
        )
    store.put_object(SUCCESS_FILE, _MARK.encode_record({"manifest": ""}))


def finish_run(log: CommitLog, *, manifest_only: bool = False) -> None:
    """Finish the run: append `final`, then call `complete_finish`.

    Raises:
        FencedError: If another attempt has opened the run meanwhile; that attempt finishes it.
        HaltError: If files must be deleted that this job may not delete.
    """
    log.append_final()
    if not complete_finish(log, manifest_only=manifest_only):
        raise FencedError(f"{log.store.root}: another attempt has taken over ({describe_holder(log.state)})")


def complete_finish(log: CommitLog, *, manifest_only: bool = False) -> bool:
    """Do all steps after `final`; any process may repeat them, without `open`.

    Args:
        log: Log of the run; its last record is `final`.
        manifest_only: Whether orphaned files that this job may not delete stay. `_SUCCESS` then lists them, and readers
            other than cvbatch must wait until an operator has deleted them.

    Returns:
        False if the log has records after this `final`.

    Raises:
        HaltError: If files must be deleted that this job may not delete; `_SUCCESS` guarantees that the folder has no
            other data files.
    """
    store, state = log.store, log.state
    final = state.next_seq - 1
    name = manifest_name(final)
    create_with_retries(store, name, _build_manifest(final, state))
    orphans = _delete_orphan_files(store, state)
    if not log.refresh().is_final or log.state.next_seq - 1 != final:
        return False
    if manifest_only and (orphans or read_success_mark(store) == ""):
        store.put_object(SUCCESS_FILE, _MARK.encode_record({"manifest": name, "to_remove": orphans}))
        return True
    if orphans:
        named = ", ".join(orphans[:_MAX_NAMED])
        named += f" and {len(orphans) - _MAX_NAMED} more" * (len(orphans) > _MAX_NAMED)
        raise HaltError(
            f"{store.root}: all rows are complete, but {len(orphans)} files without accepted rows must be deleted, and "
            f"this job may not delete: remove {named} and run the same command again, or add --manifest-only "
            "(cvbatch verify lists them)",
            details="\n".join(orphans),
        )
    mark = _MARK.encode_record({"manifest": name})
    # a mark with a newer manifest stays: another process has finished the run later, and may have ended already
    while not create_with_retries(store, SUCCESS_FILE, mark) and (marked_name := read_success_mark(store)) != name:
        if marked_name is not None and marked_name > name:
            return False
        if not store.delete_object(SUCCESS_FILE):
            raise HaltError(
                f"{store.root}/{SUCCESS_FILE} names an older manifest, and this job may not delete; remove it, and run "
                "the same command again"
            )
    if log.refresh().next_seq - 1 != final:
        if read_success_mark(store) == name:
            store.delete_object(SUCCESS_FILE)
        return False
    return True


def _build_manifest(final: int, state: RunState) -> bytes:
    """Encode the manifest; a pure function of the log up to `final`, so that writing it twice is harmless."""
    files = [file.to_json() for file in sorted(state.files.values(), key=lambda file: file.ranges)]
    content = {"final": final, "files": files, "removed": list(state.removed)}
    content |= {"moves": state.move_parts} if state.move_parts else {}
    if state.plan_file is None:
        return _MANIFEST.encode_record(content)
    return _EVOLVED_MANIFEST.encode_record({**content, "plan_file": state.plan_file})


def _delete_orphan_files(store: Store, state: RunState) -> list[str]:
    """Delete data files that no record has accepted; files of newer epochs and files with other names stay.

    Returns:
        Orphaned files that this job may not delete.
    """
    undeleted = []
    for path in store.list_sizes(DATA_FOLDER):
        epoch = epoch_of_path(path)
        if path not in state.files and epoch is not None and epoch <= state.epoch and not store.delete_object(path):
            undeleted.append(path)
    return undeleted
