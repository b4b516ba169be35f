"""Checkpoints of the commit log: the run state after a given record, so that a long log opens in seconds.

A checkpoint is a pure function of the records before it, so it does not matter which process writes it, or how often.
Only opening uses it; `verify` reads the records themselves.
"""

from __future__ import annotations

from typing import Any, Final

from cvbatch.output.log_records import RunState
from cvbatch.output.store import Store, create_with_retries
from cvbatch.system.environment import EnvironmentNumber
from cvbatch.system.formats import RecordFormat

CHECKPOINT_RECORDS: Final = EnvironmentNumber("CVBATCH_CHECKPOINT_RECORDS", 256, minimum=1)
"""Records between two checkpoints."""
_FOLDER = "_cvbatch/snapshots"
_CHECKPOINT: Final = RecordFormat("snapshot", dict[str, Any], minor=1)


def save_checkpoint(store: Store, state: RunState) -> None:
    """Save the state after its last record, and delete older checkpoints."""
    name = _checkpoint_name(state.next_seq)
    create_with_retries(store, name, _CHECKPOINT.encode_record(state.to_json()))
    for existing_name in store.list_sizes(_FOLDER):
        if existing_name < name:
            store.delete_object(existing_name)


def load_checkpoint(store: Store) -> RunState | None:
    """Return the newest saved state, or None if there is none."""
    for name in reversed(store.list_sizes(_FOLDER)):
        try:
            return RunState.from_json(_CHECKPOINT.decode_record(store.read_object(name), f"{store.root}/{name}"))
        except FileNotFoundError:  # a newer checkpoint replaced it after the listing
            continue
    return None


def _checkpoint_name(seq: int) -> str:
    return f"{_FOLDER}/{seq:010d}.json"
