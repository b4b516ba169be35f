"""The state that results from the records of a log, and the records that the protocol forbids."""

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


def evolve(remove: list[str], *add: dict[str, Any], epoch: int = 1) -> dict[str, Any]:
    return record("evolve", epoch, remove=remove, add=add, computed=[], plan="_cvbatch/plan-x.json")


def state(*records: dict[str, Any], planned: int = 10) -> RunState:
    run_state = RunState(planned)
    for one in records:
        run_state.apply_record(json.loads(json.dumps(one)))
    return run_state


COMMITTED = (opened(), record("commit", files=[file(A, (0, 4), (6, 8)), file(B, (4, 6), Truncated=2)]))
WHOLE = (*COMMITTED, record("commit", files=[file(C, (8, 10))]))


def test_other_models_replace_all_files_and_the_plan_at_once() -> None:
    run_state = state(*WHOLE, opened(2), evolve([A, B, C], file(OF_2, (0, 10), Truncated=1), epoch=2))
    assert list(run_state.files) == [OF_2]
    assert run_state.errors == {"Truncated": 1}
    assert run_state.plan_file == "_cvbatch/plan-x.json"
    again = RunState.from_json(json.loads(json.dumps(run_state.to_json())))
    assert again.plan_file == run_state.plan_file


def test_a_whole_run() -> None:
    run_state = state(*WHOLE, record("final", rows=10))
    assert run_state.is_final
    assert run_state.accepted == RowRanges([(0, 10)])
    assert list(run_state.files) == [A, B, C]
    assert run_state.errors == {"Truncated": 2}
    assert (run_state.epoch, run_state.next_seq, run_state.opened) == (1, 4, [5.0])


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
    run_state = state(opened(), extend(part, complete=False))
    assert (run_state.planned, run_state.parts, run_state.complete) == (15, [part], False)
    run_state.apply_record(extend())
    assert (run_state.planned, run_state.complete) == (15, True)


def test_replaced_files_pass_their_rows_to_new_files() -> None:
    run_state = state(*COMMITTED, opened(2), replace([B], file(OF_2, (4, 6)), computed=[(4, 6)], epoch=2))
    assert list(run_state.files) == [A, OF_2]
    assert +run_state.errors == {}
    assert len(run_state.accepted) == 8


def test_removed_images() -> None:
    run_state = state(*COMMITTED, record("removed", ranges=[[2, 4]]), record("removed", ranges=[[0, 1], [4, 5]]))
    assert list(run_state.removed) == [(0, 1), (2, 5)]
    assert len(run_state.accepted) == 8, "their rows stay"


def test_images_that_come_back() -> None:
    run_state = state(
        *COMMITTED, record("removed", ranges=[[2, 8]], back=[]), record("removed", ranges=[], back=[[3, 5]])
    )
    assert list(run_state.removed) == [(2, 3), (5, 8)]
    run_state.apply_record(record("removed", ranges=[[4, 5], [0, 1]], back=[[6, 9]]))
    assert list(run_state.removed) == [(0, 1), (2, 3), (4, 6)]
    assert not len(run_state.stale), "changes of their content are recorded separately"


def test_changed_images_are_stale_until_they_are_computed_again() -> None:
    first, second = changed((1, 3), (5, 7)), changed((2, 4))
    run_state = state(*COMMITTED, extend(changed=[first]), extend(changed=[second]))
    assert [part["path"] for part in run_state.changed] == ["p", "p"]
    assert list(run_state.stale) == [(1, 4), (5, 7)]
    run_state.apply_record(replace([B], file(C, (4, 6)), computed=[(5, 6)]))
    assert list(run_state.stale) == [(1, 4), (6, 7)]
    assert len(run_state.accepted) == 8


def test_rows_that_were_copied_stay_stale() -> None:
    run_state = state(*COMMITTED, extend(changed=[changed((4, 6))]), replace([B], file(C, (4, 6)), computed=[]))
    assert list(run_state.stale) == [(4, 6)]


def test_a_changed_image_that_is_not_computed_yet() -> None:
    run_state = state(*COMMITTED, extend(changed=[changed((7, 10))]))
    assert list(run_state.stale) == [(7, 10)]
    run_state.apply_record(record("commit", files=[file(C, (8, 10))]))
    assert list(run_state.stale) == [(7, 8)]


def test_new_rows_may_change_in_the_record_that_plans_them() -> None:
    run_state = state(opened(), extend({"first_row_id": 10, "rows": 2}, changed=[changed((11, 12))]))
    assert (run_state.planned, list(run_state.stale)) == (12, [(11, 12)])


def test_the_rows_of_the_last_minutes() -> None:
    def committed(seconds: float, *ranges: tuple[int, int]) -> dict[str, Any]:
        nonlocal row
        row += 1
        return {**record("commit", files=[file(f"data/e1-{row:032x}.parquet", *ranges)]), "time": seconds}

    row = 0
    run_state = state(opened(), committed(0, (0, 2)), committed(RECENT_SECONDS, (2, 3), (4, 5)))
    assert run_state.recent == [[0, 2], [RECENT_SECONDS, 2]]
    run_state.apply_record(committed(RECENT_SECONDS + 1, (5, 8)))
    assert run_state.recent == [[RECENT_SECONDS, 2], [RECENT_SECONDS + 1, 3]]
    again = replace([f"data/e1-{1:032x}.parquet"], file(A, (0, 2)), computed=[(1, 2)])
    run_state.apply_record({**again, "time": RECENT_SECONDS + 2})
    assert run_state.recent[-1] == [RECENT_SECONDS + 2, 1], "copied rows are no work"


def test_the_rows_before_an_epoch() -> None:
    run_state = state(*COMMITTED, opened(2))
    assert (run_state.rows_before, run_state.opened) == (8, [5.0, 5.0])


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
    run_state = state(*EVERYTHING[:cut])
    back = RunState.from_json(json.loads(json.dumps(run_state.to_json())))
    assert back == run_state
    assert list(back.files) == list(run_state.files)
    for next_record in EVERYTHING[cut:]:  # later records have the same effect on both
        for restored in (back, run_state):
            restored.apply_record(json.loads(json.dumps(next_record)))
    assert back == run_state == state(*EVERYTHING)


def test_a_saved_state_shares_nothing_with_the_original() -> None:
    run_state = state(*COMMITTED)
    saved = json.dumps(run_state.to_json())
    run_state.apply_record(extend(changed=[changed((0, 4))]))
    run_state.apply_record(record("removed", ranges=[[4, 6]]))
    assert RunState.from_json(json.loads(saved)) == state(*COMMITTED)


@pytest.mark.parametrize(
    ("records", "why"),
    [
        ([record("commit", files=[])], "the run is held by epoch 0"),
        ([opened(), opened()], "not newer"),
        ([opened(2), opened(1)], "not newer"),
        ([opened(), opened(2), record("commit", 1, files=[])], "the run is held by epoch 2"),
        ([*COMMITTED, record("commit", files=[file(C, (3, 5))])], f"rows of {C} are not planned, or accepted already"),
        ([*COMMITTED, record("commit", files=[file(A, (8, 9))])], f"rows of {A} are not planned, or accepted already"),
        (
            [opened(), record("commit", files=[file(A, (0, 2)), file(B, (1, 3))])],
            f"rows of {B} are not planned, or accepted already",
        ),
        ([opened(), record("commit", files=[file(A, (0, 3), (2, 4))])], "in the set already"),
        ([opened(), record("commit", files=[file(A, (9, 11))])], f"rows of {A} are not planned, or accepted already"),
        ([opened(), record("commit", files=[file(A, (-1, 1))])], f"rows of {A} are not planned, or accepted already"),
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
        ([*WHOLE, opened(2), evolve([A], file(OF_2, (0, 4), (6, 8)), epoch=2)], "it leaves files behind"),
        ([*WHOLE, opened(2), evolve([A, B, C], file(OF_2, (0, 9)), epoch=2)], "differ from the removed rows"),
        ([*COMMITTED, replace([B, B], file(C, (4, 6)))], "in the set already"),
        ([*COMMITTED, replace([B], file(C, (4, 5)))], "the added rows differ from the removed rows"),
        ([*COMMITTED, replace([B], file(C, (4, 6), (8, 9)))], "differ from the removed rows"),
        ([*COMMITTED, replace([B])], "differ from the removed rows"),
        ([*COMMITTED, replace([], file(C, (8, 9)))], "differ from the removed rows"),
        ([*COMMITTED, replace([B], file(C, (4, 6)), file(C, (4, 6)))], "in the set already"),
        ([*COMMITTED, replace([B], file(B, (4, 6)))], f"{B} is accepted already"),
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
def test_records_that_the_protocol_forbids(records: list[dict[str, Any]], why: str) -> None:
    with pytest.raises(CorruptionError, match="log record") as caught:
        state(*records)
    assert why in str(caught.value)


def test_after_final_only_open_may_follow() -> None:
    finished = (*WHOLE, record("final", rows=10))
    with pytest.raises(CorruptionError, match="only open may follow final"):
        state(*finished, record("commit", files=[]))
    assert not state(*finished, opened(2)).is_final
