"""Models that do not fit beside each other, on a real Ray."""

from __future__ import annotations

import pyarrow as pa
import pytest

from cvbatch.output.data_files import read_data_file
from cvbatch.runs.passes import compute_missing_rows
from tests.engine.test_ray_engine import Attempt, Prepare, prepare
from tests.integration.faulty import DIES, HANGS

__all__ = ["prepare"]
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Ray's own code
NAMES = ("first", "second")


def computed(attempt: Attempt) -> dict[int, str | None]:
    """Compute all rows; type of error by row. Rows without an error have the answers of all models."""
    outcome = attempt.outcome(compute_missing_rows(attempt.engine, attempt.log, attempt.plan, attempt.missing))
    tables = [read_data_file(attempt.log.store, file) for file in attempt.log.state.files.values()]
    rows = pa.concat_tables(tables).to_pylist()
    assert all(row["first_score"] == row["second_score"] for row in rows)
    assert {row["row_id"] for row in rows if row["first_score"] is not None} == {
        row for row, error in outcome.items() if error is None
    }
    assert attempt.engine.resource_plan.passes == (("first",), ("second",))
    return outcome


def test_models_that_cannot_be_loaded_together_get_passes_of_their_own(prepare: Prepare) -> None:
    attempt = prepare(10, {}, {"unit_rows": 4}, greedy=NAMES)
    assert computed(attempt) == dict.fromkeys(range(10))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("deed", "error", "when", "patience"),
    [(DIES, "ProcessDied", "loading", "10m"), (HANGS, "TimedOut", "predicting", "25s")],
)
def test_an_image_that_is_harmful_is_tried_alone_by_each_pass(
    prepare: Prepare, deed: int, error: str, when: str, patience: str
) -> None:
    attempt = prepare(12, {5: deed}, {"unit_rows": 4, "stalled_after": patience}, greedy=NAMES, when=when)
    assert computed(attempt) == {row: error if row == 5 else None for row in range(12)}
