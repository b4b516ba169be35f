"""Whatever drivers do at whatever moment, and whatever the store does to them: every row is there exactly once.

The model knows nothing of the protocol. It lets the real log, its drivers and their write tasks take turns at one
store in memory, request by request, and an independent reader looks at what is there after every turn.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from cvbatch.errors import CorruptionError, FencedError, OutputError, RunError
from cvbatch.output import data_files as write_tasks
from cvbatch.output.commit_log import CommitLog
from cvbatch.output.data_files import WriteContext
from cvbatch.output.log_records import DataFile
from cvbatch.output.manifest import DATA_FOLDER, SUCCESS_FILE, complete_finish, finish_run, is_finished, manifest_name
from cvbatch.output.row_ranges import RowRange, RowRanges
from cvbatch.output.store import Store
from cvbatch.schema import predictions_schema
from tests.output.actors import FAULTS, Actor, Died, Fault, Objects, Refused, Wire
from tests.output.auditor import Auditor

PLANNED, AT_MOST = 5, 8
FOREIGN = f"{DATA_FOLDER}/notes.parquet"

who = st.integers(0, 5)
row = st.integers(0, AT_MOST)
UNDISTURBED = (999, None, False)
LOST = Fault("now", "no answer")
disturbed = st.tuples(
    st.sampled_from([0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 5, 6, 7, 9, 12, 16]),
    st.sampled_from([None, *FAULTS, *[LOST] * 5]),
    st.booleans(),
)
how = st.one_of(st.just(UNDISTURBED), disturbed)
"""Number of requests at once, an optional fault, and whether the actor then continues; half of the time undisturbed."""
How = tuple[int, Fault | None, bool]


class Driver:
    """One attempt at a run, which does one thing at a time."""

    def __init__(self, objects: Objects, number: int) -> None:
        self.wire = Wire(objects)
        self.number = number
        self.ready = self.failed = False
        self.actor: Actor | None = None

    def start(self) -> None:
        """Open the log as an attempt does."""
        self.log = CommitLog(self.wire, PLANNED)
        self.log.open_epoch({"host": "here", "pid": self.number})
        self.wire.delete_object(SUCCESS_FILE)


class Protocol(RuleBasedStateMachine):
    """Any number of drivers, at most three at a time, and write tasks that outlive them."""

    new_objects: Callable[[], Objects] = Objects

    def __init__(self) -> None:
        super().__init__()
        write_tasks._newest_records.clear()  # each example is a run of its own
        self.objects = self.new_objects()
        self.objects.create_object(FOREIGN, b"")
        self.auditor = Auditor(self.objects, PLANNED)
        self.drivers: list[Driver] = []
        self.busy: list[tuple[Actor, Driver | None]] = []
        self.written: list[DataFile] = []
        self.starts = self.names = 0
        self.sound = True

    # what drivers do

    @initialize()
    def the_first_driver_opens(self) -> None:
        self.a_driver_opens(UNDISTURBED)

    @precondition(lambda self: len(self.drivers) < 3)
    @rule(how=how)
    def a_driver_opens(self, how: How) -> None:
        self.starts += 1
        driver = Driver(self.objects, self.starts)
        self.drivers.append(driver)
        self._begin(driver.wire, driver.start, how, driver)

    @precondition(lambda self: self.idle)
    @rule(who=who, low=row, high=row, hole=st.booleans(), failed=st.booleans(), how=how)
    def a_task_writes(self, who: int, low: int, high: int, hole: bool, failed: bool, how: How) -> None:
        """The task belongs to a driver and may outlive it; any row may be written again."""
        epoch = self._pick(who).log.epoch
        low, high = min(low, high), max(low, high) + 1
        rows = [(low, low + 1), (low + 2, high)] if hole and low + 2 < high else [(low, high)]
        wire, path = Wire(self.objects), self._path(epoch)
        self._begin(wire, lambda: self.written.append(_publish(wire, path, rows, failed)), how)

    @precondition(lambda self: self.idle)
    @rule(who=who, low=row, rows=st.integers(1, 3), failed=st.booleans(), how=how)
    def a_driver_computes(self, who: int, low: int, rows: int, failed: bool, how: How) -> None:
        """Run a task and commit its file, even if the rows are accepted already."""
        driver = self._pick(who)
        path = self._path(driver.log.epoch)

        def work() -> None:
            driver.log.commit_files([_publish(driver.wire, path, [(low, low + rows)], failed)])

        self._begin(driver.wire, work, how, driver)

    @precondition(lambda self: self.idle and self.written)
    @rule(who=who, which=st.lists(st.integers(0, 9), min_size=1, max_size=3), how=how)
    def a_driver_commits(self, who: int, which: list[int], how: How) -> None:
        """Commit any files, also those of other drivers."""
        driver = self._pick(who)
        files = [self.written[-1 - index % len(self.written)] for index in which]
        self._begin(driver.wire, lambda: driver.log.commit_files(files), how, driver)

    @precondition(lambda self: any(driver.log.state.files for driver in self.idle))
    @rule(who=who, which=st.sets(who, min_size=1, max_size=2), cut=row, copied=row, wrong=st.booleans(), how=how)
    def a_driver_replaces(self, who: int, which: set[int], cut: int, copied: int, wrong: bool, how: How) -> None:
        """Replace files by one or two with the same rows or, if `wrong`, with other rows."""
        driver = self._pick(who, [driver for driver in self.idle if driver.log.state.files])
        log, paths = driver.log, list(driver.log.state.files)
        remove = [*{paths[index % len(paths)] for index in sorted(which)}]
        rows = RowRanges(pair for path in remove for pair in log.state.files[path].ranges)
        if wrong:
            rows.add_missing([(cut, cut + 1)]) if rows.gaps_within(cut, cut + 1) else rows.remove_present(
                [(cut, cut + 1)]
            )
        halves = [half for half in (rows.ranges_within(0, cut), rows.ranges_within(cut, AT_MOST + 1)) if half]
        computed = RowRanges(rows)
        computed.remove_present([(copied, copied + 1)])

        def work() -> None:
            add = [_publish(driver.wire, self._path(log.epoch), half) for half in halves]
            try:
                log.replace_files(remove, add, computed)
            except CorruptionError:
                if not wrong:
                    raise

        self._begin(driver.wire, work, how, driver)

    @precondition(lambda self: self.idle)
    @rule(who=who, rows=st.integers(0, 2), low=row, high=row, complete=st.booleans(), how=how)
    def a_driver_extends(self, who: int, rows: int, low: int, high: int, complete: bool, how: How) -> None:
        """Add new rows, and newer facts about a range of older rows."""
        driver = self._pick(who)
        first = driver.log.state.planned
        rows = min(rows, AT_MOST - first)
        parts = [{"path": "p", "first_row_id": first, "rows": rows}] if rows else []
        high = min(high, first + rows)
        changed = [{"path": "c", "rows": high - low, "ranges": [[low, high]]}] if low < high else []
        self._begin(driver.wire, lambda: driver.log.extend_plan(parts, complete=complete, changed=changed), how, driver)

    @precondition(lambda self: self.idle)
    @rule(who=who, how=how)
    def a_driver_moves(self, who: int, how: How) -> None:
        """Record that all images have moved; no row is computed again."""
        driver = self._pick(who)
        part = {"path": "m", "rows": 1, "ranges": [[0, driver.log.state.planned]], "places": [["/a", "/b"]]}
        self._begin(driver.wire, lambda: driver.log.record_move(part), how, driver)

    @precondition(lambda self: self.idle)
    @rule(who=who, gone=st.tuples(row, row), back=st.tuples(row, row), how=how)
    def a_driver_removes(self, who: int, gone: RowRange, back: RowRange, how: How) -> None:
        driver = self._pick(who)
        state = driver.log.state
        returned = state.removed.ranges_within(*back) if back[0] < back[1] else []
        lost = state.removed.gaps_within(gone[0], min(gone[1], state.planned))
        self._begin(driver.wire, lambda: driver.log.remove_rows(lost, returned), how, driver)

    @precondition(lambda self: self.idle)
    @rule(who=who, how=how)
    def a_driver_completes(self, who: int, how: How) -> None:
        driver = self._pick(who)
        self._begin(driver.wire, lambda: self._complete(driver.wire, driver.log), how, driver)

    @precondition(lambda self: self.idle)
    @rule(who=who, how=how)
    def a_driver_finishes(self, who: int, how: How) -> None:
        """Finish the run, even if rows are missing."""
        driver = self._pick(who)
        self._begin(driver.wire, lambda: finish_run(driver.log), how, driver)

    @precondition(lambda self: self.auditor.now.final and len(self.busy) < 6)
    @rule(how=how)
    def a_process_repeats_the_steps_after_final(self, how: How) -> None:
        wire = Wire(self.objects)
        self._begin(wire, lambda: _repeat_tail(CommitLog(wire, PLANNED)), how)

    # what happens to drivers and tasks

    @precondition(lambda self: self.busy)
    @rule(who=who, how=how)
    def an_actor_continues(self, who: int, how: How) -> None:
        self._go(*self.busy[who % len(self.busy)], how)

    @precondition(lambda self: len(self.drivers) > 1)
    @rule(who=who)
    def a_driver_dies(self, who: int) -> None:
        """Let a driver die; the last one survives, since otherwise drivers would do little but open the log."""
        driver = self.drivers[who % len(self.drivers)]
        if driver.actor is not None and not driver.actor.has_ended:
            self._go(driver.actor, driver, (0, FAULTS[0], False))
        else:
            self.drivers.remove(driver)

    @precondition(lambda self: self.objects.late)
    @rule(which=who)
    def a_late_request_takes_effect(self, which: int) -> None:
        self.sound = False
        self._land(which % len(self.objects.late))

    # invariants

    @invariant()
    def all_is_well(self) -> None:
        self.auditor.check()
        self.sound = True

    def teardown(self) -> None:
        """Check that after any history the next attempt finishes the run."""
        for actor, _ in self.busy:
            actor.kill()
        if not self.sound:
            return
        while self.objects.late:
            self._land(0)
        log = CommitLog(self.objects, PLANNED)
        if log.state.is_final:
            assert complete_finish(log)
            self._check_end(log)
        log.open_epoch()
        self.objects.delete_object(SUCCESS_FILE)
        self._complete(self.objects, log)
        self._check_end(log)

    # helpers

    @property
    def idle(self) -> list[Driver]:
        """Drivers that are not fenced off, as far as they know, and have no work."""
        return [
            driver for driver in self.drivers if driver.ready and driver.actor is not None and driver.actor.has_ended
        ]

    def _pick(self, who: int, candidates: Sequence[Driver] = ()) -> Driver:
        """Pick a driver; half of the time the newest, which alone may still write."""
        candidates = candidates or self.idle
        return candidates[who % len(candidates) if who < 3 else -1]

    def _path(self, epoch: int) -> str:
        self.names += 1
        return f"{DATA_FOLDER}/e{epoch:08d}-{self.names:032x}.parquet"

    def _begin(self, wire: Wire, work: Callable[[], object], how: How, driver: Driver | None = None) -> None:
        actor = Actor(wire, work)
        if driver is not None:
            driver.actor = actor
        self.busy.append((actor, driver))
        self._go(actor, driver, how)

    def _go(self, actor: Actor, driver: Driver | None, how: How) -> None:
        self.sound = False
        requests, fault, goes_on = how
        actor.go(requests, fault)
        if goes_on:
            actor.go(999)
        if not actor.has_ended:
            return
        self.busy.remove((actor, driver))
        if not _expected(actor.error):
            raise actor.error or AssertionError
        if driver is None:
            return
        driver.failed |= isinstance(actor.error, Refused)
        if isinstance(actor.error, FencedError | OutputError):
            self._check_overtaken(driver)
        if isinstance(actor.error, Died) or (actor.error and not driver.ready):
            self.drivers.remove(driver)
        elif not driver.ready:
            driver.ready = True
            self.auditor.check()
            self.auditor.driver_opened(driver.log.epoch)

    def _check_overtaken(self, driver: Driver) -> None:
        """Check that a fenced driver has a successor, or that its own failed request has left a record."""
        self.auditor.check()
        now = self.auditor.now
        assert now.holder is not None
        assert driver.failed or now.final or now.holder["holder"]["pid"] != driver.number, "nobody took over"

    def _land(self, which: int) -> None:
        with contextlib.suppress(CorruptionError):  # a data file that exists already
            self.objects.late.pop(which)()

    def _complete(self, store: Store, log: CommitLog) -> None:
        state = log.state
        log.commit_files(
            [_publish(store, self._path(log.epoch), [gap]) for gap in state.accepted.missing_ranges(state.planned)]
        )
        for path, file in [*state.files.items()]:
            stale = [part for pair in file.ranges for part in state.stale.ranges_within(*pair)]
            if stale:
                log.replace_files([path], [_publish(store, self._path(log.epoch), file.ranges)], stale)
        finish_run(log)

    def _check_end(self, log: CommitLog) -> None:
        self.auditor.check()
        now, final = self.auditor.now, len(self.auditor.records) - 1
        assert now.final
        assert now.rows == set(range(now.planned))
        assert self.auditor.mark == final
        assert manifest_name(final) in self.objects.content
        assert is_finished(self.objects, log.state)
        assert self.objects.list_sizes(DATA_FOLDER).keys() == {*now.files, FOREIGN}
        assert CommitLog(self.objects, PLANNED).state == CommitLog(self.objects, PLANNED, whole=True).state == log.state


def _publish(store: Store, path: str, ranges: Iterable[RowRange], failed: bool = False) -> DataFile:
    """Publish a file like a write task, which reads the log right before its file gets its name."""
    ranges, file = tuple(ranges), DataFile(path, 0, ())
    assert file.epoch is not None
    job = WriteContext(store.root, file.epoch, predictions_schema([]))
    size = store.add_file(path, lambda local: write_tasks._require_newest_epoch(store, job))
    return DataFile(path, size, ranges, {"Odd": 1} if failed else {})


def _repeat_tail(log: CommitLog) -> None:
    if log.state.is_final:
        complete_finish(log)


def _expected(error: BaseException | None) -> bool:
    """Whether an actor may end with this error if others disturb it, or the store fails."""
    if error is None or isinstance(error, Died | Refused | FencedError | OutputError):
        return True
    return type(error) is RunError and "rows are missing" in str(error)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CVBATCH_CREATE_PAUSE", "0")
    monkeypatch.setenv("CVBATCH_CHECKPOINT_RECORDS", "4")


def explore(examples: int, steps: int, machine: type[Protocol] = Protocol) -> None:
    slow = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    run_state_machine_as_test(
        machine,
        settings=settings(max_examples=examples, stateful_step_count=steps, deadline=None, suppress_health_check=slow),
    )


def test_every_row_is_there_exactly_once_whatever_happens() -> None:
    explore(100, 40)


@pytest.mark.slow
def test_every_row_is_there_exactly_once_whatever_happens_for_long() -> None:
    explore(2_000, 60)
