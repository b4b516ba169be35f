"""Records carry their format, and new formats do not break stored records."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import Field

from cvbatch.errors import CorruptionError, OutputError
from cvbatch.output.checkpoints import load_checkpoint
from cvbatch.output.commit_log import CommitLog
from cvbatch.output.lease import last_heartbeat
from cvbatch.output.log_records import RunState
from cvbatch.output.manifest import latest_manifest, read_success_mark
from cvbatch.output.store import LocalStore
from cvbatch.planning.plan import load_plan
from cvbatch.runs.run_record import load_record
from cvbatch.system.formats import RecordFormat
from cvbatch.tuning.certificate import load_run_settings
from tests.stored import GOLDEN, lasting, listing, records


@dataclass
class Crop:
    size: tuple[int, int]
    """(width, height)."""


@dataclass
class Note:
    text: str
    crop: Crop | None = None
    kept_rows: Annotated[int, Field(alias="rows")] = 3
    tags: tuple[str, ...] = field(default=())


@dataclass
class Measured:
    values: dict[str, Any]


NOTE = RecordFormat("note", Note, 2, 1)
PLAIN = RecordFormat("note", dict[str, Any], 2, 1)


def test_a_record_survives_a_round_trip() -> None:
    note = Note("a", Crop((1, 2)), 5, ("x", "y"))
    content = NOTE.encode_record(note)
    data = {"text": "a", "crop": {"size": [1, 2]}, "rows": 5, "tags": ["x", "y"]}
    assert json.loads(content) == {"format": "2.1", **data}
    assert NOTE.decode_record(content, "here") == note
    assert NOTE.to_plain_fields(note) == data


@pytest.mark.parametrize("record_format", [RecordFormat("note", dict[str, Any]), RecordFormat("spec", Measured)])
def test_numbers_that_are_not_finite_survive_a_round_trip(record_format: RecordFormat[Any]) -> None:
    record = record_format.decode_record(b'{"values": {"a": [Infinity, -Infinity, NaN]}}', "here")
    stored = json.loads(record_format.encode_record(record))["values"]["a"]
    assert stored[:2] == [math.inf, -math.inf]
    assert math.isnan(stored[2])


@pytest.mark.parametrize("written", ["2.1", "2.0", "2.7", "1.4", "1", 1, None])
def test_unknown_fields_are_ignored_and_missing_ones_have_their_defaults(written: Any) -> None:
    format_field = {} if written is None else {"format": written}
    data = {**format_field, "text": "a", "colour": "red", "crop": {"size": [1, 2], "turn": 90}}
    assert NOTE.decode_record(json.dumps(data), "here") == Note("a", Crop((1, 2)))


@pytest.mark.parametrize("kind", [NOTE, PLAIN])
@pytest.mark.parametrize("written", ["3.0", "10.2", 3])
def test_a_newer_major_format_is_refused(kind: RecordFormat[Any], written: Any) -> None:
    with pytest.raises(OutputError) as caught:
        kind.decode_record(json.dumps({"format": written, "text": "a"}), "out/note.json")
    expected = f"this note was written with format {written}, and this cvbatch reads up to 2.1: use a newer cvbatch"
    assert str(caught.value) == f"out/note.json: {expected}"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "got invalid JSON"),
        ("[]", "dict"),
        ('{"format": "2.1"}', "text: Field required"),
        ('{"text": "a", "crop": {"size": [1]}}', r"crop\.size\.1: Field required"),
        ('{"format": "new", "text": "a"}', "got 'new'"),
    ],
)
def test_an_invalid_record_is_refused(content: str, message: str) -> None:
    with pytest.raises(CorruptionError, match=rf"^out/note\.json: expected a note.*{message}"):
        NOTE.decode_record(content, "out/note.json")


def test_a_rewritten_record_gets_the_current_format() -> None:
    old = PLAIN.decode_record('{"format": "1.3", "text": "a"}', "here")
    assert PLAIN.to_json(old) == {"format": "2.1", "text": "a"}


def test_stored_records_have_not_changed(tmp_path: Path) -> None:
    made, golden = lasting(records(tmp_path), tmp_path), json.loads(GOLDEN.read_text())
    for name in golden:
        assert made[name] == golden[name], f"{name}: see tests/planning/older_outputs/README.md"
    assert made.keys() == golden.keys()


def output(folder: Path) -> LocalStore:
    records(folder)
    return LocalStore(str(folder / "out"))


def the_holder(store: LocalStore, folder: Path) -> object:
    return last_heartbeat(store, CommitLog(store, 3).state)


READERS: dict[str, Callable[[LocalStore, Path], object]] = {
    "_cvbatch/plan.json": lambda store, _: load_plan(store),
    "_cvbatch/log/0000000008.json": lambda store, _: CommitLog(store, 3).state,
    "_cvbatch/log/0000000001.json": lambda store, _: CommitLog(store, 3, whole=True).state,
    "_cvbatch/snapshots/0000000008.json": lambda store, _: load_checkpoint(store),
    "_cvbatch/manifest-0000000008.json": lambda store, _: latest_manifest(store),
    "_SUCCESS": lambda store, _: read_success_mark(store),
    "_cvbatch/holder.json": the_holder,
    "_cvbatch/setting.json": lambda store, _: load_run_settings(store),
    "_cvbatch/run.json": lambda store, _: load_record(store).get("rows_planned"),
    "_cvbatch/listing-": lambda store, folder: listing(store, folder).load_partial(None),
    "_cvbatch/created-with": lambda store, _: LocalStore(store.root).create_object("new", b""),
}


@pytest.fixture(params=READERS)
def stored(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Callable[[], Any], Path]:
    """A reader of one record, and its file."""
    store = output(tmp_path)
    (path,) = (path for path in Path(store.root).rglob("*") if f"out/{request.param}" in str(path))
    return lambda: READERS[request.param](store, tmp_path), path


def without_surroundings(record: Any) -> Any:
    """The record without the fields that the test added."""
    if isinstance(record, RunState):
        return replace(record, last=None)
    return {key: record[key] for key in record if key not in ("format", "mood")} if isinstance(record, dict) else record


def test_a_record_of_a_newer_minor_format_is_read(stored: tuple[Callable[[], Any], Path]) -> None:
    read, path = stored
    before = read()
    assert before
    data = json.loads(path.read_text())
    path.write_text(json.dumps({**data, "format": "1.9", "mood": {"good": True}}))
    again = read()
    if path.name == "created-with":
        assert again is False, "it is there already"
    else:
        assert without_surroundings(again) == without_surroundings(before)


def test_a_record_of_a_newer_major_format_is_refused(stored: tuple[Callable[[], Any], Path]) -> None:
    read, path = stored
    data = json.loads(path.read_text())
    path.write_text(json.dumps({**data, "format": "3.0"}))
    with pytest.raises(
        OutputError, match=rf"{path.name}: this .* was written with format 3\.0, and .* up to [12]\.[01]: use a"
    ):
        read()


def test_every_record_has_a_format(tmp_path: Path) -> None:
    without = {"identity of a job", "identity of a job with every option"}
    for name, record in records(tmp_path).items():
        parts = record if isinstance(record, list) else [record]
        assert all(("format" in part) is (name not in without) for part in parts), name
