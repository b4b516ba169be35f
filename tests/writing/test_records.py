"""What the records of a log add up to, and what the protocol forbids."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cvbatch.errors import CorruptionError
from cvbatch.writing.ranges import RowRanges
from cvbatch.writing.records import DataFile, State, epoch_of

A, B, C = (f"data/e00000001-{letter * 32}.parquet" for letter in "abc")
OF_2 = f"data/e00000002-{'d' * 32}.parquet"


def file(path: str, *ranges: tuple[int, int], **errors: int) -> dict[str, Any]:
    return DataFile(path, 10, ranges, errors).to_json()


def opened(epoch: int = 1) -> dict[str, Any]:
    return {"type": "open", "epoch": epoch, "nonce": f"o{epoch}", "time": 5.0, "holder": {"pid": 1, "host": "h"}}


def record(kind: str, epoch: int = 1, **body: Any) -> dict[str, Any]:
    return {"type": kind, "epoch": epoch, "nonce": "n", "time": 6.0, **body}


def state(*records: dict[str, Any], planned: int = 10) -> State:
    found = State(planned)
    for one in records:
        found.apply(json.loads(json.dumps(one)))
    return found


COMMITTED = (opened(), record("commit", files=[file(A, (0, 4), (6, 8)), file(B, (4, 6), Truncated=2)]))


def test_a_whole_run() -> None:
    found = state(*COMMITTED, record("commit", files=[file(C, (8, 10))]), record("final", rows=10))
    assert found.final
    assert found.accepted == RowRanges([(0, 10)])
    assert list(found.files) == [A, B, C]
    assert found.errors == {"Truncated": 2}
    assert (found.epoch, found.next_seq, found.opened) == (1, 4, [5.0])


def test_files_survive_json() -> None:
    data = file(A, (0, 4), (6, 8), Truncated=2)
    assert data["statuses"] == {"ok": 4, "error": 2}
    assert DataFile.from_json(json.loads(json.dumps(data))).to_json() == data


@pytest.mark.parametrize(
    ("name", "epoch"),
    [
        (A, 1),
        (f"data/e12345678901-{'a' * 32}.parquet", 12345678901),
        (f"data/1-{'a' * 32}.parquet", None),
        (f"data/e²-{'a' * 32}.parquet", None),
        ("data/e1-notes.parquet", None),
        ("data/part-0.parquet", None),
        (f"other/e1-{'a' * 32}.parquet", None),
    ],
)
def test_the_epoch_in_a_name(name: str, epoch: int | None) -> None:
    assert epoch_of(name) == epoch


def test_extensions_follow_the_plan() -> None:
    part = {"path": "p", "first_row_id": 10, "rows": 5}
    found = state(opened(), record("extend", parts=[part], complete=False))
    assert (found.planned, found.parts, found.complete) == (15, [part], False)
    found.apply(record("extend", parts=[], complete=True))
    assert (found.planned, found.complete) == (15, True)


def test_replaced_files_give_their_rows_to_others() -> None:
    good = DataFile(OF_2, 5, ((4, 6),)).to_json()
    found = state(*COMMITTED, opened(2), record("replace", 2, remove=[B], add=[good]))
    assert list(found.files) == [A, OF_2]
    assert +found.errors == {}
    assert len(found.accepted) == 8


def test_removed_images() -> None:
    found = state(opened(), record("removed", ranges=[[2, 4]]))
    assert list(found.removed) == [(2, 4)]


@pytest.mark.parametrize(
    ("records", "why"),
    [
        ([record("commit", files=[])], "the run is held by epoch 0"),
        ([opened(), opened()], "not newer"),
        ([opened(2), opened(1)], "not newer"),
        ([opened(), opened(2), record("commit", 1, files=[])], "the run is held by epoch 2"),
        ([*COMMITTED, record("commit", files=[file(C, (3, 5))])], f"rows of {C} are taken"),
        ([*COMMITTED, record("commit", files=[file(A, (8, 9))])], f"rows of {A} are taken"),
        ([opened(), record("commit", files=[file(A, (0, 2)), file(B, (1, 3))])], f"rows of {B} are taken"),
        ([opened(), record("commit", files=[file(A, (0, 3), (2, 4))])], "there already"),
        ([opened(), record("commit", files=[file(A, (9, 11))])], f"rows of {A} are taken"),
        ([opened(), record("commit", files=[file(A, (-1, 1))])], f"rows of {A} are taken"),
        ([opened(), record("commit", files=[file(A, (3, 3))])], "at least one row"),
        ([opened(), record("commit", files=[file(OF_2, (0, 1))])], "was not written in this epoch"),
        ([opened(), record("commit", files=[file("data/x.parquet", (0, 1))])], "was not written in this epoch"),
        ([opened(), record("final", rows=10)], "rows are missing"),
        ([opened(), record("final", rows=0)], "rows are missing"),
        ([opened(), record("extend", parts=[{"first_row_id": 9, "rows": 1}], complete=True)], "do not follow the plan"),
        ([*COMMITTED, record("replace", remove=[C], add=[])], "not accepted"),
        ([*COMMITTED, record("replace", remove=[B, B], add=[file(C, (4, 6))])], "there already"),
        ([*COMMITTED, record("replace", remove=[B], add=[file(C, (4, 5))])], "not the rows that were replaced"),
        ([*COMMITTED, record("replace", remove=[B], add=[file(C, (4, 6), (8, 9))])], "not the rows"),
        ([opened(), record("removed", ranges=[[2, 4], [3, 5]])], "removed already"),
        ([opened(), record("removed", ranges=[[8, 11]])], "not planned"),
        ([opened(), record("merge")], "does not know its type"),
        ([opened(), record("add")], "does not know its type"),
    ],
)
def test_what_the_protocol_forbids(records: list[dict[str, Any]], why: str) -> None:
    with pytest.raises(CorruptionError, match="log record") as caught:
        state(*records)
    assert why in str(caught.value)


def test_after_final_only_open_may_follow() -> None:
    done = (*COMMITTED, record("commit", files=[file(C, (8, 10))]), record("final", rows=10))
    with pytest.raises(CorruptionError, match="only open may follow final"):
        state(*done, record("commit", files=[]))
    assert not state(*done, opened(2)).final
