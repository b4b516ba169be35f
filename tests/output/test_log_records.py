"""What the records of a log add up to, and what the protocol forbids."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cvbatch.errors import CorruptionError
from cvbatch.output.log_records import RECENT_SECONDS, DataFile, RunState, epoch_of_path
from cvbatch.output.row_ranges import RowRanges

A, B, C = (f"data/e00000001-{letter * 32}.parquet" for letter in "abc")
OF_2 = f"data/e00000002-{'d' * 32}.parquet"


def file(path: str, *ranges: tuple[int, int], **errors: int) -> dict[str, Any]:
    return DataFile(path, 10, ranges, errors).to_json()


def opened(epoch: int = 1) -> dict[str, Any]:
    return {"type": "open", "epoch": epoch, "nonce": f"o{epoch}", "time": 5.0, "holder": {"pid": 1, "host": "h"}}


def record(kind: str, epoch: int = 1, **body: Any) -> dict[str, Any]:
    return {"type": kind, "epoch": epoch, "nonce": "n", "time": 6.0, **body}


def extend(*parts: dict[str, Any], complete: bool = True, changed: Any = (), epoch: int = 1) -> dict[str, Any]:
    return record("extend", epoch, parts=parts, complete=complete, changed=changed)


def changed(*ranges: tuple[int, int]) -> dict[str, Any]:
    return {"path": "p", "rows": sum(high - low for low, high in ranges), "ranges": ranges}


def replace(remove: list[str], *add: dict[str, Any], computed: Any = (), epoch: int = 1) -> dict[str, Any]:
    return record("replace", epoch, remove=remove, add=add, computed=computed)


def state(*records: dict[str, Any], planned: int = 10) -> RunState:
    found = RunState(planned)
    for one in records:
        found.apply_record(json.loads(json.dumps(one)))
    return found


COMMITTED = (opened(), record("commit", files=[file(A, (0, 4), (6, 8)), file(B, (4, 6), Truncated=2)]))
WHOLE = (*COMMITTED, record("commit", files=[file(C, (8, 10))]))


def test_a_whole_run() -> None:
    found = state(*WHOLE, record("final", rows=10))
    assert found.is_final
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
    assert epoch_of_path(name) == epoch


def test_extensions_follow_the_plan() -> None:
    part = {"path": "p", "first_row_id": 10, "rows": 5}
    found = state(opened(), extend(part, complete=False))
    assert (found.planned, found.parts, found.complete) == (15, [part], False)
    found.apply_record(extend())
    assert (found.planned, found.complete) == (15, True)


def test_replaced_files_give_their_rows_to_others() -> None:
    found = state(*COMMITTED, opened(2), replace([B], file(OF_2, (4, 6)), computed=[(4, 6)], epoch=2))
    assert list(found.files) == [A, OF_2]
    assert +found.errors == {}
    assert len(found.accepted) == 8


def test_removed_images() -> None:
    found = state(*COMMITTED, record("removed", ranges=[[2, 4]]), record("removed", ranges=[[0, 1], [4, 5]]))
    assert list(found.removed) == [(0, 1), (2, 5)]
    assert len(found.accepted) == 8, "their rows stay"


def test_images_that_are_back() -> None:
    found = state(*COMMITTED, record("removed", ranges=[[2, 8]], back=[]), record("removed", ranges=[], back=[[3, 5]]))
    assert list(found.removed) == [(2, 3), (5, 8)]
    found.apply_record(record("removed", ranges=[[4, 5], [0, 1]], back=[[6, 9]]))
    assert list(found.removed) == [(0, 1), (2, 3), (4, 6)]
    assert not len(found.stale), "their content is a matter of another record"


def test_changed_images_are_stale_until_they_are_computed_again() -> None:
    first, second = changed((1, 3), (5, 7)), changed((2, 4))
    found = state(*COMMITTED, extend(changed=[first]), extend(changed=[second]))
    assert [part["path"] for part in found.changed] == ["p", "p"]
    assert list(found.stale) == [(1, 4), (5, 7)]
    found.apply_record(replace([B], file(C, (4, 6)), computed=[(5, 6)]))
    assert list(found.stale) == [(1, 4), (6, 7)]
    assert len(found.accepted) == 8


def test_rows_that_were_copied_stay_stale() -> None:
    found = state(*COMMITTED, extend(changed=[changed((4, 6))]), replace([B], file(C, (4, 6)), computed=[]))
    assert list(found.stale) == [(4, 6)]


def test_a_changed_image_that_nobody_has_computed_yet() -> None:
    found = state(*COMMITTED, extend(changed=[changed((7, 10))]))
    assert list(found.stale) == [(7, 10)]
    found.apply_record(record("commit", files=[file(C, (8, 10))]))
    assert list(found.stale) == [(7, 8)]


def test_new_rows_may_change_in_the_record_that_plans_them() -> None:
    found = state(opened(), extend({"first_row_id": 10, "rows": 2}, changed=[changed((11, 12))]))
    assert (found.planned, list(found.stale)) == (12, [(11, 12)])


def test_the_rows_of_the_last_minutes() -> None:
    def committed(at: float, *ranges: tuple[int, int]) -> dict[str, Any]:
        nonlocal row
        row += 1
        return {**record("commit", files=[file(f"data/e1-{row:032x}.parquet", *ranges)]), "time": at}

    row = 0
    found = state(opened(), committed(0, (0, 2)), committed(RECENT_SECONDS, (2, 3), (4, 5)))
    assert found.recent == [[0, 2], [RECENT_SECONDS, 2]]
    found.apply_record(committed(RECENT_SECONDS + 1, (5, 8)))
    assert found.recent == [[RECENT_SECONDS, 2], [RECENT_SECONDS + 1, 3]]
    again = replace([f"data/e1-{1:032x}.parquet"], file(A, (0, 2)), computed=[(1, 2)])
    found.apply_record({**again, "time": RECENT_SECONDS + 2})
    assert found.recent[-1] == [RECENT_SECONDS + 2, 1], "copied rows are no work"


def test_the_rows_before_an_epoch() -> None:
    found = state(*COMMITTED, opened(2))
    assert (found.rows_before, found.opened) == (8, [5.0, 5.0])


EVERYTHING = (
    *COMMITTED,
    record("removed", ranges=[[0, 2], [6, 7]]),
    record("removed", ranges=[[8, 9]], back=[[1, 2]]),
    extend({"path": "p", "first_row_id": 10, "rows": 2}, complete=False, changed=[changed((1, 5))]),
    record("commit", files=[file(C, (10, 12), (8, 9), Truncated=1, Timeout=2)]),
    opened(2),
    replace([B, C], file(OF_2, (4, 6), (8, 9), (10, 12), Timeout=1), computed=[(4, 6)], epoch=2),
    extend(changed=[changed((5, 6))], epoch=2),
    record("commit", 2, files=[file(f"data/e2-{'e' * 32}.parquet", (9, 10))]),
    replace([A], file(f"data/e2-{'f' * 32}.parquet", (0, 4), (6, 8)), computed=[(0, 4)], epoch=2),
    replace(
        [OF_2],
        file(f"data/e2-{'0' * 32}.parquet", (4, 6), (8, 9), (10, 12)),
        computed=[(4, 6), (8, 9), (10, 12)],
        epoch=2,
    ),
    record("final", 2, rows=12),
)


@pytest.mark.parametrize("cut", range(len(EVERYTHING) + 1))
def test_a_state_survives_json_after_any_record(cut: int) -> None:
    found = state(*EVERYTHING[:cut])
    back = RunState.from_json(json.loads(json.dumps(found.to_json())))
    assert back == found
    assert list(back.files) == list(found.files)
    for one in EVERYTHING[cut:]:  # and goes on alike
        for each in (back, found):
            each.apply_record(json.loads(json.dumps(one)))
    assert back == found == state(*EVERYTHING)


def test_a_state_that_was_kept_shares_nothing_with_the_one_it_came_from() -> None:
    found = state(*COMMITTED)
    kept = json.dumps(found.to_json())
    found.apply_record(extend(changed=[changed((0, 4))]))
    found.apply_record(record("removed", ranges=[[4, 6]]))
    assert RunState.from_json(json.loads(kept)) == state(*COMMITTED)


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
        ([opened(), extend({"first_row_id": 9, "rows": 1})], "do not follow the plan"),
        (
            [opened(), extend({"first_row_id": 10, "rows": 1}, {"first_row_id": 10, "rows": 1})],
            "do not follow the plan",
        ),
        ([opened(), extend(changed=[changed((9, 11))])], "changes unplanned rows"),
        ([opened(), extend({"first_row_id": 10, "rows": 1}, changed=[changed((11, 12))])], "changes unplanned rows"),
        ([*COMMITTED, replace([C])], "not accepted"),
        ([*COMMITTED, replace([B, B], file(C, (4, 6)))], "there already"),
        ([*COMMITTED, replace([B], file(C, (4, 5)))], "not the rows that were replaced"),
        ([*COMMITTED, replace([B], file(C, (4, 6), (8, 9)))], "not the rows"),
        ([*COMMITTED, replace([B])], "not the rows"),
        ([*COMMITTED, replace([], file(C, (8, 9)))], "not the rows"),
        ([*COMMITTED, replace([B], file(C, (4, 6)), file(C, (4, 6)))], "there already"),
        ([*COMMITTED, replace([B], file(B, (4, 6)))], f"{B} is there already"),
        ([*COMMITTED, replace([B], file(OF_2, (4, 6)))], "was not written in this epoch"),
        ([*COMMITTED, opened(2), replace([B], file(C, (4, 6)), epoch=2)], "was not written in this epoch"),
        ([*COMMITTED, opened(2), replace([B], file(C, (4, 6)))], "the run is held by epoch 2"),
        ([*WHOLE, extend(changed=[changed((4, 5))]), record("final", rows=10)], "are not computed again"),
        ([*WHOLE, record("final", rows=9)], "rows are missing"),
        ([opened(), record("removed", ranges=[[2, 4]]), record("removed", ranges=[[3, 4]])], "removed already"),
        (
            [opened(), record("removed", ranges=[[2, 4]], back=[[2, 3]]), record("removed", ranges=[[3, 4]])],
            "not planned",
        ),
        ([opened(), record("removed", ranges=[[3, 3]])], "not planned"),
        ([opened(), record("removed", ranges=[[-1, 1]])], "not planned"),
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
    done = (*WHOLE, record("final", rows=10))
    with pytest.raises(CorruptionError, match="only open may follow final"):
        state(*done, record("commit", files=[]))
    assert not state(*done, opened(2)).is_final
