"""A plan is made once, whoever else plans at the same moment, and belongs to one job."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cvbatch.config.compute import ComputeConfig
from cvbatch.config.job import Job, ModelConfig, OutputConfig, SourceConfig
from cvbatch.errors import OutputError, RunError, SourceError
from cvbatch.models.spec import ModelSpec
from cvbatch.output.log_records import RunState
from cvbatch.output.store import LocalStore, Store
from cvbatch.planning.moved import current_job
from cvbatch.planning.parts import PARTS_FOLDER, read_plan_part
from cvbatch.planning.plan import PLAN_FILE, Plan, check_same_job, check_same_models, load_plan, make_plan
from cvbatch.sources import open_source
from cvbatch.storage.options import StorageOptions
from cvbatch.submit.jobs import job_name_of
from tests.output.failing import Failing, Overtaken
from tests.samples import job, photos, spec

FOLDER = "_cvbatch/plan"


def make(store: Store, asked: Job, *models: Any) -> Plan:
    return make_plan(store, asked, models or [spec()], open_source(asked.source))


def rows(store: Store, plan: Plan) -> pa.Table:
    return pa.concat_tables([read_plan_part(store, part) for part in plan.parts])


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(str(tmp_path / "out"))


def test_row_ids_are_dense_over_all_parts(tmp_path: Path, store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CVBATCH_CHUNK_ROWS", "3")
    plan = make(store, job(photos(tmp_path / "photos", 8)))
    assert [(part["first_row_id"], part["rows"]) for part in plan.parts] == [(0, 3), (3, 3), (6, 2)]
    table = rows(store, plan)
    assert table["row_id"].to_pylist() == list(range(8))
    assert table["image_uri"].to_pylist() == [f"{tmp_path}/photos/{row:04d}.jpg" for row in range(8)]
    assert table["image_bytes"].to_pylist() == list(range(8))
    assert (plan.rows, plan.complete) == (8, True)
    assert load_plan(store) == plan


@pytest.mark.parametrize(("limit", "planned", "complete"), [(2, 2, False), (3, 3, False), (5, 5, True), (9, 5, True)])
def test_a_limit(
    tmp_path: Path, store: LocalStore, monkeypatch: pytest.MonkeyPatch, limit: int, planned: int, complete: bool
) -> None:
    monkeypatch.setenv("CVBATCH_CHUNK_ROWS", "3")
    plan = make(store, job(photos(tmp_path / "photos", 5), source={"limit": limit}))
    assert (plan.rows, plan.complete, rows(store, plan).num_rows) == (planned, complete, planned)


def test_nothing_to_plan(tmp_path: Path, store: LocalStore) -> None:
    photos(tmp_path / "photos", 0)
    with pytest.raises(SourceError, match=r"holds no images$"):
        make(store, job(tmp_path / "photos"))
    (tmp_path / "photos/a.xmp").touch()
    with pytest.raises(SourceError, match=r"holds no images \(other files skipped: 1 \.xmp; source\.extensions: any"):
        make(store, job(tmp_path / "photos"))
    assert load_plan(store) is None


def test_a_source_with_unreadable_files_only_is_refused(tmp_path: Path, store: LocalStore) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/a.zip").write_bytes(b"text")
    with pytest.raises(SourceError, match=r"photos holds no images; .*a\.zip cannot be read: File is not a zip file"):
        make(store, job(tmp_path / "photos"))
    assert load_plan(store) is None
    assert not store.list_sizes(PARTS_FOLDER)
    (tmp_path / "photos/b.jpg").touch()
    plan = make(store, job(tmp_path / "photos"))
    assert rows(store, plan)["image_uri"].to_pylist() == [f"{tmp_path}/photos/a.zip", f"{tmp_path}/photos/b.jpg"]
    assert plan.unreadable == (f"{tmp_path}/photos/a.zip (File is not a zip file)",)


def test_the_plan_records_skipped_files(tmp_path: Path, store: LocalStore) -> None:
    photos(tmp_path / "photos", 1).joinpath("a.xmp").touch()
    assert make(store, job(tmp_path / "photos")).skipped == {".xmp": 1}


def test_columns_of_a_manifest_are_planned(tmp_path: Path, store: LocalStore) -> None:
    table = pa.table({"uri": ["a", "b"], "day": pa.array([1, None], pa.date32()), "k": ["x", "y"]})
    pq.write_table(table, tmp_path / "m.parquet")
    plan = make(store, job(tmp_path / "m.parquet"))
    assert plan.extra_columns(store) == [pa.field("day", pa.date32()), pa.field("k", pa.string())]
    assert rows(store, plan)["k"].to_pylist() == ["x", "y"]


def test_a_column_with_the_name_of_a_models_is_refused_before_anything_is_written(
    tmp_path: Path, store: LocalStore
) -> None:
    (tmp_path / "m.csv").write_text("uri,classification_label\na,b\n")
    with pytest.raises(
        SourceError, match=r"'classification_label' has the name of a model's column; use source\.rename"
    ):
        make(store, job(tmp_path / "m.csv"))
    assert not (tmp_path / "out").exists()
    renamed = {"rename": {"classification_label": "mine"}}
    assert make(store, job(tmp_path / "m.csv", source=renamed)).extra_columns(store)[0].name == "mine"


def test_data_without_a_plan_is_refused(tmp_path: Path, store: LocalStore) -> None:
    store.create_object("data/x.parquet", b"")
    with pytest.raises(OutputError, match="data is not empty, but there is no plan"):
        make(store, job(photos(tmp_path / "photos", 2)))


def test_the_slower_of_two_attempts_uses_the_others_plan(tmp_path: Path, store: LocalStore) -> None:
    asked = job(photos(tmp_path / "photos", 2))
    won: list[Plan] = []
    late = Overtaken(store.root, "create", PLAN_FILE, lambda: won.append(make(store, asked)))
    assert make(late, asked) == won[0]
    assert list(store.list_sizes(FOLDER)) == [part["path"] for part in won[0].parts]


def test_the_slower_of_two_attempts_may_find_data(tmp_path: Path, store: LocalStore) -> None:
    asked = job(photos(tmp_path / "photos", 2))
    won = make(store, asked)
    store.create_object("data/x.parquet", b"")
    assert make(store, asked) == won


def test_the_slower_of_two_attempts_refuses_another_job(tmp_path: Path, store: LocalStore) -> None:
    first, second = job(photos(tmp_path / "photos", 2)), job(photos(tmp_path / "others", 2))
    late = Overtaken(store.root, "create", PLAN_FILE, lambda: make(store, first))
    with pytest.raises(OutputError, match=r"belongs to another run: source\.uri is"):
        make(late, second)


@pytest.mark.parametrize("takes_effect", [True, False])
def test_a_request_without_an_answer_is_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, takes_effect: bool
) -> None:
    monkeypatch.setenv("CVBATCH_CREATE_PAUSE", "0")
    failing = Failing(str(tmp_path / "out"), failures=2, takes_effect=takes_effect)
    plan = make(failing, job(photos(tmp_path / "photos", 2)))
    assert rows(failing, plan).num_rows == 2


def test_parts_are_never_dropped_on_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CVBATCH_CREATE_TIMEOUT", "0")
    failing = Failing(str(tmp_path / "out"), failures=1, takes_effect=True)
    with pytest.raises(RunError):
        make(failing, job(photos(tmp_path / "photos", 2)))
    plan = load_plan(failing)
    assert plan is not None
    assert rows(failing, plan).num_rows == 2


def test_another_job_is_refused_with_the_difference(tmp_path: Path, store: LocalStore) -> None:
    plan = make(store, job(photos(tmp_path / "photos", 2)))
    for same in (
        job(tmp_path / "photos", source={"limit": 1}),
        job(f"{tmp_path}/./photos/", compute={"unit_rows": 8, "device": "cpu"}),
    ):
        check_same_job(store, plan.identity, same)
    other = job(tmp_path / "photos", models=[{"model": "python:m:f", "top_k": 3}], compute={"precision": "bf16"})
    with pytest.raises(OutputError) as caught:
        check_same_job(store, plan.identity, other)
    assert str(caught.value) == (
        f"{store.root} belongs to another run: models.0.top_k is 5 in the run, 3 in the job; "
        'precision is "auto" in the run, "bf16" in the job; choose another output'
    )
    with pytest.raises(OutputError, match=r"models is \[.*…? in the run, \[.*…? in the job"):
        check_same_job(store, plan.identity, job(tmp_path / "photos", models=[{"model": "a"}, {"model": "b"}]))


def test_other_weights_are_refused(tmp_path: Path, store: LocalStore) -> None:
    plan = make(store, job(photos(tmp_path / "photos", 2)), spec(weights_sha256="aa"))
    check_same_models(store, plan, [spec(weights_sha256="aa")])
    with pytest.raises(OutputError, match=r'classification\.weights_sha256 is "aa" in the run, "bb" in the job'):
        check_same_models(store, plan, [spec(weights_sha256="bb")])


def test_a_plan_of_a_newer_version(tmp_path: Path, store: LocalStore) -> None:
    make(store, job(photos(tmp_path / "photos", 2)))
    content = json.loads(store.read_object(PLAN_FILE))
    store.put_object(PLAN_FILE, json.dumps({**content, "format": 2}).encode())
    with pytest.raises(OutputError, match=r"plan\.json: this plan was written with format 2, and .* up to 1\.1: use a"):
        load_plan(store)


def test_a_plan_whose_models_are_of_a_newer_version(tmp_path: Path, store: LocalStore) -> None:
    make(store, job(photos(tmp_path / "photos", 2)))
    content = json.loads(store.read_object(PLAN_FILE))
    models = [{**model, "format": "2.1"} for model in content["models"]]
    store.put_object(PLAN_FILE, json.dumps({**content, "models": models}).encode())
    with pytest.raises(OutputError, match=r"this model was written with format 2\.1"):
        load_plan(store)


def test_a_part_of_a_newer_version(tmp_path: Path, store: LocalStore) -> None:
    plan = make(store, job(photos(tmp_path / "photos", 2)))
    path = store.local_path(plan.parts[0]["path"])
    table = pq.read_table(path)
    assert read_plan_part(store, plan.parts[0]).schema.metadata is None
    pq.write_table(table.replace_schema_metadata({"cvbatch": json.dumps({"format": "2.0"})}), path)
    with pytest.raises(OutputError, match=r"\.plan: this part of the plan was written with format 2\.0"):
        read_plan_part(store, plan.parts[0])


class NewerSource(SourceConfig):
    sharpen: float = 0.5
    crops: tuple[str, ...] = ("whole",)


class NewerModel(ModelConfig):
    layer: str = "last"


class NewerCompute(ComputeConfig):
    pause: float = 0.1


class NewerOutput(OutputConfig):
    compression: str = "zstd"


class NewerJob(Job):
    """A job as a newer version has it: with an option that has a default in every section, and one beside them."""

    source: NewerSource
    models: tuple[NewerModel, ...]
    compute: NewerCompute = NewerCompute()
    output: NewerOutput
    language: str = "en"


def newer(asked: Job, **changes: Any) -> NewerJob:
    data = asked.model_dump(mode="json", by_alias=True)
    for path, value in changes.items():
        *sections, key = path.split("__")
        place: Any = data
        for section in sections:
            place = place[0 if section == "first" else section]
        place[key] = value
    return NewerJob.model_validate(data)


def test_a_new_option_with_its_default_changes_no_run(tmp_path: Path, store: LocalStore) -> None:
    asked = job(photos(tmp_path / "photos", 2), store.root)
    plan = make(store, asked)
    assert newer(asked).identity() == asked.identity()
    assert job_name_of(newer(asked)) == job_name_of(asked)
    check_same_job(store, plan.identity, newer(asked))
    spelled = {"source__sharpen": 0.5, "models__first__layer": "last", "compute__pause": 0.1, "language": "en"}
    check_same_job(store, plan.identity, newer(asked, **spelled))
    elsewhere = newer(asked, compute__pause=9.0, output__compression="none")
    check_same_job(store, plan.identity, elsewhere)  # how a start computes and writes is its own affair


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("source__sharpen", 0.9, r"source\.sharpen is 0\.5 in the run, 0\.9 in the job"),
        ("source__crops", ["left"], r'source\.crops\.0 is "whole" in the run, "left" in the job'),
        ("models__first__layer", "first", r'models\.0\.layer is "last" in the run, "first" in the job'),
        ("language", "de", r'language is "en" in the run, "de" in the job'),
        ("source__exif", True, r"source\.exif is false in the run, true in the job"),
        ("source__icc", "convert", r'source\.icc is "ignore" in the run, "convert" in the job'),
        ("models__first__top_k", 3, r"models\.0\.top_k is 5 in the run, 3 in the job"),
        ("compute__precision", "bf16", r'precision is "auto" in the run, "bf16" in the job'),
    ],
)
def test_a_changed_option_is_another_run(tmp_path: Path, store: LocalStore, path: str, value: Any, said: str) -> None:
    asked = job(photos(tmp_path / "photos", 2), store.root)
    plan = make(store, asked)
    changed = newer(asked, **{path: value})
    assert job_name_of(changed) != job_name_of(asked)
    with pytest.raises(OutputError, match=said):
        check_same_job(store, plan.identity, changed)


def test_a_plan_of_a_newer_minor_version(tmp_path: Path, store: LocalStore) -> None:
    """What it asks for besides is passed over where it has its default, and nowhere else."""
    asked = job(photos(tmp_path / "photos", 2), store.root)
    make(store, asked)
    content = json.loads(store.read_object(PLAN_FILE))

    def planned_with(**changes: Any) -> tuple[Plan, Job]:
        wanted = newer(asked, **changes)
        parts = {"job": wanted.model_dump(mode="json", by_alias=True), "identity": wanted.identity()}
        models = [{**model, "stride": 2} for model in content["models"]]
        store.put_object(
            PLAN_FILE, json.dumps({**content, **parts, "format": "1.9", "mood": "good", "models": models}).encode()
        )
        plan = load_plan(store)
        assert plan is not None
        return plan, current_job(plan, RunState(2))

    plan, known = planned_with()
    assert (known, plan.models) == (asked, (spec(),))
    check_same_job(store, plan.identity, known)
    plan, known = planned_with(source__sharpen=0.9)
    assert known == asked
    with pytest.raises(OutputError, match=r"source\.sharpen is 0\.9 in the run, null in the job"):
        check_same_job(store, plan.identity, known)


def own(tmp_path: Path, **changes: Any) -> ModelSpec:
    files = {"m.py": "11", "w.bin": "22"}
    way = {"folder": str(tmp_path), "options": {"weights": "w.bin", "size": 3}, "files": files}
    return replace(spec(), **{**way, "weights_path": "/here/w.pth", "weights_sha256": "33", **changes})


@pytest.mark.parametrize("loaded", [True, False])
def test_the_same_models_elsewhere_are_the_same(tmp_path: Path, store: LocalStore, loaded: bool) -> None:
    plan = replace(make(store, job(photos(tmp_path / "photos", 2))), models=(own(tmp_path),))
    for change in (
        {"weights_path": "/there/w.pth", "weights_storage": StorageOptions(region="here"), "folder": "/there"},
        {"options": {"weights": "./w.bin", "size": 3}},
        {"options": {"weights": "/a/b.bin", "size": 3}, "files": {"m.py": "11", "/a/b.bin": "22"}},
        {"files": {"m.py": "11", "w.bin": "22", "cache.bin": "44"}},
    ):
        check_same_models(store, plan, [own(tmp_path, **change)], loaded=loaded)


@pytest.mark.parametrize("loaded", [True, False])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"files": {"m.py": "12", "w.bin": "22"}}, "m.py of the model classification has changed, in "),
        ({"files": {"m.py": "11", "w.bin": "23"}}, "w.bin of the model classification has changed, in "),
        ({"files": {"w.bin": "22"}}, "m.py of the model classification is missing, in "),
        ({"options": {"weights": "w.bin", "size": 4}}, "classification.options.size is 3 in the run, 4 in the job"),
        ({"options": {"weights": "x.bin", "size": 3}, "files": {"m.py": "11", "x.bin": "9"}}, "options.weights"),
    ],
)
def test_models_of_other_files_are_refused(
    tmp_path: Path, store: LocalStore, change: dict[str, Any], message: str, loaded: bool
) -> None:
    plan = replace(make(store, job(photos(tmp_path / "photos", 2))), models=(own(tmp_path),))
    with pytest.raises(OutputError) as caught:
        check_same_models(store, plan, [own(tmp_path, **change)], loaded=loaded)
    assert message in str(caught.value)


def test_other_weights_are_refused_before_anything_is_loaded(tmp_path: Path, store: LocalStore) -> None:
    def checkpoint(**changes: Any) -> ModelSpec:
        return own(tmp_path, kind="torchvision", options={}, files={}, **changes)

    plan = replace(make(store, job(photos(tmp_path / "photos", 2))), models=(checkpoint(categories=(None, "a", "b")),))
    check_same_models(store, plan, [checkpoint(categories=("a", "b"))], loaded=False)
    for change in ({"weights_sha256": "34"}, {"categories": ("a", "c")}):
        with pytest.raises(OutputError, match="belongs to another run: classification"):
            check_same_models(store, plan, [checkpoint(**{"categories": ("a", "b"), **change})], loaded=False)


def test_a_plan_without_files_is_compared_with_the_last_attempt(tmp_path: Path, store: LocalStore) -> None:
    plan = replace(make(store, job(photos(tmp_path / "photos", 2))), models=(own(tmp_path, files={}),))
    check_same_models(store, plan, [own(tmp_path)])
    check_same_models(store, plan, [own(tmp_path)], {"classification": {"m.py": "11"}})
    with pytest.raises(OutputError, match=r"m\.py of the model classification has changed"):
        check_same_models(store, plan, [own(tmp_path)], {"classification": {"m.py": "10"}})


def test_a_job_with_equivalent_paths_is_the_same(tmp_path: Path, store: LocalStore) -> None:
    def asked(checkpoint: str, categories: Any) -> Job:
        model = {"model": "resnet18", "checkpoint": checkpoint, "categories": categories}
        return job(tmp_path / "photos", models=[model])

    photos(tmp_path / "photos", 2)
    plan = make(store, asked("w.pth", "names.txt"))
    check_same_job(store, plan.identity, asked("./w.pth", ["cat", "dog"]))
