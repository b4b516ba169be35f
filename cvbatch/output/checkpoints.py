"""Snapshots of the commit log: what it adds up to at some record, so that a long log opens in seconds.

A snapshot is a pure function of the records before it, so it does not matter who writes it, or how often. It is a
short cut for opening; `verify` goes by the records themselves.
"""

from __future__ import annotations

from typing import Any, Final

from cvbatch.output.log_records import State
from cvbatch.output.store import Store, create_surely
from cvbatch.system.environment import EnvironmentNumber
from cvbatch.system.formats import Format

SNAPSHOT_RECORDS: Final = EnvironmentNumber("CVBATCH_SNAPSHOT_RECORDS", 256, least=1)
"""Records between two snapshots."""
_FOLDER = "_cvbatch/snapshots"
_SNAPSHOT: Final = Format("snapshot", dict[str, Any])


def save_snapshot(store: Store, state: State) -> None:
    """Keep the state after its last record, and drop the snapshots before it."""
    name = _name(state.next_seq)
    create_surely(store, name, _SNAPSHOT.encode(state.to_json()))
    for older in store.sizes(_FOLDER):
        if older < name:
            store.delete(older)


def load_snapshot(store: Store) -> State | None:
    """Return the newest state that is kept, or None if there is none."""
    for name in reversed(store.sizes(_FOLDER)):
        try:
            return State.from_json(_SNAPSHOT.decode(store.read(name), f"{store.root}/{name}"))
        except FileNotFoundError:  # a newer one has taken its place meanwhile
            continue
    return None


def _name(seq: int) -> str:
    return f"{_FOLDER}/{seq:010d}.json"
