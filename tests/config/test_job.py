"""A job is checked as a whole, and what is wrong with it fits into one line."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import pytest

from cvbatch.config.job import Job, ModelConfig
from cvbatch.config.job_file import load_job
from cvbatch.errors import DeniedError, JobError
from cvbatch.storage.location import Location
from cvbatch.storage.options import StorageOptions
from cvbatch.tasks import TASKS
from tests.rigs.objects import ObjectServer

GOOD = """
source: {uri: photos}
models: [{model: resnet50, top_k: 3}, {model: efficientnet_lite0, as: tags}]
output: {uri: out}
"""


@pytest.fixture
def job_file(tmp_path: Path) -> Any:
    def write(text: str) -> str:
        path = tmp_path / "job.yaml"
        path.write_text(textwrap.dedent(text))
        return str(path)

    return write


def wrong(path: str | None, *overrides: str, **defaults: Any) -> str:
    with pytest.raises(JobError) as caught:
        load_job(path, overrides=overrides, defaults=defaults)
    message = str(caught.value)
    assert "\n" not in message
    return message.removeprefix(f"{path}: ")


def test_a_whole_file(job_file: Any) -> None:
    job = load_job(job_file(GOOD))
    assert [model.model for model in job.models] == ["resnet50", "efficientnet_lite0"]
    assert (job.models[0].top_k, job.models[1].alias) == (3, "tags")
    assert (job.compute.precision, job.source.max_pixels) == ("auto", 178_000_000)


def test_a_job_survives_json() -> None:
    job = load_job(defaults={"source": {"uri": "p"}, "models": [{"model": "m", "as": "x"}], "output": {"uri": "o"}})
    assert Job.model_validate(job.model_dump(mode="json", by_alias=True)) == job


def test_a_task_without_a_model_takes_the_embedded_one_for_it() -> None:
    tasks = [task.name for task in TASKS.own_rows() if task.default_model]
    models = [{"task": task} for task in tasks]
    job = load_job(defaults={"source": {"uri": "p"}, "models": models, "output": {"uri": "o"}})
    assert {model.task: model.model for model in job.models} == {
        "classification": "efficientnet_lite0",
        "detection": "nanodet_g",
        "segmentation": "efficientnet_lite0",
        "embedding": "efficientnet_lite0",
    }
    named = [{"task": task, "model": TASKS[task].default_model} for task in tasks]
    same = load_job(defaults={"source": {"uri": "p"}, "models": named, "output": {"uri": "o"}})
    assert job.identity() == same.identity(), "a default that changes later is another run"
    missing = "models.0.model: missing (name one, or give task: for the embedded model of that task)"
    assert wrong(None, source={"uri": "p"}, models=[{}], output={"uri": "o"}) == missing
    unknown = wrong(None, source={"uri": "p"}, models=[{"task": "poetry"}], output={"uri": "o"})
    assert unknown.startswith(f"{missing}; models.0.task: expected 'classification'")


def test_flags_override_the_file_and_set_overrides_both(job_file: Any) -> None:
    job = load_job(
        job_file(GOOD),
        defaults={"source": {"limit": 5}, "output": {"uri": "there"}},
        overrides=[
            "compute.precision=fp32",
            "models.0.weights=null",
            "models.1.options.deep.er=[1, 2]",
            "output.uri=x=y",
            "source.limit=7",
        ],
    )
    assert (job.source.limit, job.output.uri) == (7, "x=y")
    assert (job.compute.precision, job.models[0].weights) == ("fp32", None)
    assert job.models[1].options == {"deep": {"er": [1, 2]}}


@pytest.mark.usefixtures("as_job")
def test_a_file_in_a_bucket(object_server: ObjectServer) -> None:
    bucket = object_server.make_bucket("images")
    object_server.put(bucket, {"job.yaml": GOOD.encode(), "large.yaml": b"#" * (1 << 20) + b"#", "odd.yaml": b"\xff"})
    way = StorageOptions(endpoint_url=object_server.endpoint)
    job = load_job(f"s3://{bucket}/job.yaml", storage=way, overrides=["output.uri=elsewhere"])
    assert (job.source.uri, job.output.uri) == ("photos", "elsewhere")
    for name, words in (
        ("none", "cannot read the job file s3://.*/none.yaml: no such object"),
        ("large", "large.yaml is not a job file: expected at most 1048576 bytes, got 1048577"),
        ("odd", "odd.yaml is not valid YAML"),
    ):
        with pytest.raises(JobError, match=words):
            load_job(f"s3://{bucket}/{name}.yaml", storage=way)
    with pytest.raises(JobError, match="without credentials") as caught:
        load_job(f"s3://me:hush@{bucket}/job.yaml", storage=way)
    assert "hush" not in str(caught.value)
    with pytest.raises(DeniedError):
        load_job("s3://another-bucket/job.yaml", storage=way)


def test_off_may_be_unquoted(job_file: Any) -> None:
    text = GOOD.replace("source: {", "source: {metadata: off, ") + "compute: {scaled_decode: off}\n"
    for job in (
        load_job(job_file(text)),
        load_job(job_file(GOOD), overrides=["source.metadata=off", "compute.scaled_decode=off"]),
    ):
        assert (job.source.metadata, job.compute.scaled_decode) == ("off", "off")
    assert "source.metadata: expected 'auto' or 'off', got True" in wrong(job_file(GOOD), "source.metadata=on")


def test_an_empty_section_has_the_defaults(job_file: Any) -> None:
    assert load_job(job_file(GOOD + "compute:\n")).compute.device == "auto"
    assert load_job(job_file(GOOD + "compute:\n"), overrides=["compute.device=cpu"]).compute.device == "cpu"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("models: [{model: m}]\nsource: {uri: p}", "output: missing (set it with --output)"),
        ("source: {}\nmodels: [{model: m}]\noutput: {uri: o}", "source.uri: missing"),
        (GOOD + "sauce: 1", "sauce: unknown key; did you mean 'source'?"),
        (GOOD + "compute: {precison: fp32}", "compute.precison: unknown key; did you mean 'precision'?"),
        (
            GOOD + "compute: {zzzz: 1}",
            "compute.zzzz: unknown key; known keys: device, precision, scaled_decode, batch_size, unit_rows, "
            "num_actors, model_memory, max_error_share, stop_after, max_cost, price_per_node_hour, decode, predict, "
            "wait_for_nodes, shared_filesystem, ray_start_timeout, stalled_after",
        ),
        (GOOD + "compute: {device: gpu}", "compute.device: expected 'auto', 'cpu' or 'cuda', got 'gpu'"),
        (GOOD + "compute: {batch_size: many}", "compute.batch_size: expected a whole number or 'auto', got 'many'"),
        (GOOD + "compute: {unit_rows: 5000}", "compute.unit_rows: expected at most 4096 or 'auto', got 5000"),
        (GOOD + "compute: 5", "compute: expected a mapping, got 5"),
        (GOOD + "1: 2", "1: expected keys that are text, got 1"),
        (
            "source: {uri: p}\nmodels: [{modle: m}]\noutput: {uri: o}",
            "models.0.model: missing (name one, or give task: for the embedded model of that task); models.0.modle: "
            "unknown key; did you mean 'model'?",
        ),
        ("source: {uri: p}\nmodels: []\noutput: {uri: o}", "models: expected at least 1, got []"),
        ("source: {uri: p}\nmodels: m\noutput: {uri: o}", "models: expected a list, got 'm'"),
        ("source: {uri: p}\nmodels: [m]\noutput: {uri: o}", "models.0: expected a mapping, got 'm'"),
        (
            "source: {uri: p}\nmodels: [{model: m, as: 9A}]\noutput: {uri: o}",
            "models.0.as: expected lower-case letters, digits and _ starting with a letter, got '9A'",
        ),
        (
            "source: {uri: p}\nmodels: [{model: m, checkpoint: c, weights: W}]\noutput: {uri: o}",
            "models.0: give checkpoint: or weights:, not both",
        ),
        (
            "source: {uri: p, extensions: jpg}\nmodels: [{model: m}]\noutput: {uri: o}",
            "source.extensions: expected 'any' or a list, got 'jpg'",
        ),
        (
            "source: {uri: p, extensions: [jpg, 5]}\nmodels: [{model: m}]\noutput: {uri: o}",
            "source.extensions.1: expected text, got 5",
        ),
        (
            "source: {uri: p, limit: true}\nmodels: [{model: m, top_k: 0}]\noutput: {uri: ''}",
            "source.limit: expected a whole number, got True; models.0.top_k: expected more than 0, got 0; "
            "output.uri: expected some text, got ''",
        ),
        (
            "source: {uri: p}\nmodels: [{model: m, score_threshold: 1.5}]\noutput: {uri: o}",
            "models.0.score_threshold: expected at most 1.0, got 1.5",
        ),
        (GOOD + "compute: {max_cost: 5}", "compute: max_cost needs price_per_node_hour"),
        (GOOD + "compute: {max_error_share: 20}", "compute.max_error_share: expected at most 1.0, got 20"),
    ],
)
def test_each_error_is_reported_once(job_file: Any, text: str, message: str) -> None:
    assert wrong(job_file(text)) == message


def test_long_values_are_cut(job_file: Any) -> None:
    assert len(wrong(job_file(GOOD + f"compute: {'x' * 1000}"))) < 100


def test_missing_sections_name_their_flags() -> None:
    assert wrong(None).count("set it with") == 3


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("# nothing\n", "expected a mapping with source, models and output, got NoneType"),
        ("- a\n", "got list"),
        ("source: [\n", "is not valid YAML"),
        ("source: \0", "is not valid YAML"),
    ],
)
def test_files_that_are_not_a_job(job_file: Any, text: str, expected: str) -> None:
    assert expected in wrong(job_file(text))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    assert "No such file" in wrong(str(tmp_path / "no.yaml"))
    assert f"{tmp_path} is a directory; images are given with --source {tmp_path}" in wrong(str(tmp_path))
    (tmp_path / "latin.yaml").write_bytes(b"source: caf\xe9")
    assert "is not valid YAML" in wrong(str(tmp_path / "latin.yaml"))


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("compute.precision", "expected KEY=VALUE"),
        ("=5", "expected KEY=VALUE"),
        ("compute.device=[", "is not a YAML value"),
        ("models.7.top_k=1", "expected a list position below 2, got '7'"),
        ("models.²=1", "expected a list position below 2, got '²'"),
        ("source.uri.x=1", "source.uri is 'photos', not a mapping or a list"),
        ("source.uri.x.y=1", "there is no section that could have the key 'x'"),
        ("compute.presicion=fp32", "did you mean 'precision'?"),
    ],
)
def test_overrides_with_invalid_paths(job_file: Any, override: str, expected: str) -> None:
    assert expected in wrong(job_file(GOOD), override)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("8h", 28_800),
        ("90m", 5_400),
        ("1h 30m", 5_400),
        ("1h30m", 5_400),
        ("1.5 h", 5_400),
        ("2d", 172_800),
        ("45", 45),
    ],
)
def test_durations(job_file: Any, text: str, seconds: float) -> None:
    job = load_job(job_file(GOOD), overrides=[f"compute.stop_after={text}", f"compute.stalled_after={text}"])
    assert (job.compute.stop_after, job.compute.stalled_after) == (seconds, seconds)
    assert Job.model_validate(job.model_dump(mode="json", by_alias=True)) == job


@pytest.mark.parametrize("text", ["soon", "8 hours", "-1h", "h", "1h or so", "''"])
def test_invalid_durations(job_file: Any, text: str) -> None:
    expected = f"compute.stop_after: expected a duration such as 8h, 90m or 1h 30m, got {text.strip(chr(39))!r}"
    assert wrong(job_file(GOOD), f"compute.stop_after={text}") == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0", "expected more than 0, got 0"), ("0s", "expected more than 0, got '0s'"), ("[1h]", "expected a number")],
)
def test_durations_must_be_positive(job_file: Any, text: str, expected: str) -> None:
    assert f"compute.stop_after: {expected}" in wrong(job_file(GOOD), f"compute.stop_after={text}")


@pytest.mark.parametrize("key", ["stop_after", "max_cost", "price_per_node_hour"])
def test_true_is_not_a_number(job_file: Any, key: str) -> None:
    assert f"compute.{key}: expected a number, got True" in wrong(job_file(GOOD), f"compute.{key}=true")


def test_reasons_to_stop_may_change_between_attempts() -> None:
    without = job("p").identity()
    parts = {"source": {"uri": "p"}, "models": [{"model": "m"}], "output": {"uri": "o"}}
    limits = {"stop_after": "8h", "max_cost": 5, "price_per_node_hour": 2, "max_error_share": 1, "stalled_after": 60}
    assert Job.model_validate({**parts, "compute": limits}).identity() == without


def job(uri: str, **source: Any) -> Job:
    return Job.model_validate({"source": {"uri": uri, **source}, "models": [{"model": "m"}], "output": {"uri": "o"}})


def test_the_identity_has_the_options_that_change_predictions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    here = job("photos").identity()
    assert here == job("photos", limit=5).identity() == job("./photos/").identity()
    assert here == job(str(tmp_path / "photos")).identity() == job(f"file://{tmp_path}/photos").identity()
    assert here != job("photos", exif=True).identity()
    assert here == job("photos", icc="ignore").identity() != job("photos", icc="convert").identity()
    assert here == job("photos", damaged="error").identity() != job("photos", damaged="keep").identity()
    assert not {"metadata", "image_column", "uri_column"} & set(here["source"]), "runs of earlier versions go on"
    assert here == job("photos", metadata="auto").identity()
    assert job("photos", metadata="off", image_column="x").identity() != here
    later = {"min_bytes", "max_bytes", "modified_since", "exclude", "http_hosts", "http_private", "icc", "damaged"}
    assert not later & set(here["source"]), "as above"
    assert here == job("photos", http_hosts=["example.org"], http_private=True).identity(), "a way, not a source"
    for filters in ({"min_bytes": "1kB"}, {"max_bytes": 5}, {"modified_since": "2024-05-31"}, {"exclude": ["thumbs"]}):
        asked = job("photos", **filters)
        assert asked.identity() != here
        assert Job.model_validate(asked.model_dump(mode="json", by_alias=True)).identity() == asked.identity()
    assert job("p", min_bytes="1kB").identity() == job("p", min_bytes=1000).identity()
    same = [job("p", modified_since=when).identity() for when in ("2024-05-31", "2024-05-31T02:00:00+02:00")]
    assert same[0] == same[1]
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert here != job("photos").identity()
    assert job("s3://bucket/a").identity()["source"]["uri"] == "s3://bucket/a"


def test_several_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, job_file: Any) -> None:
    monkeypatch.chdir(tmp_path)
    assert job(["photos"]) == job("photos"), "a list of one is that one"  # type: ignore[arg-type]  # as in YAML
    asked = load_job(job_file(GOOD), overrides=["source.uri=[a, 's3://bucket/b']"])
    assert asked.source.uris == ("a", "s3://bucket/b")
    assert asked.identity()["source"]["uri"] == [f"{tmp_path}/a", "s3://bucket/b"]
    assert asked.local_paths()[0] == f"{tmp_path}/a"
    assert Job.model_validate(asked.model_dump(mode="json", by_alias=True)) == asked
    for given, message in (
        ("[]", "source.uri: expected"),
        ("3", "source.uri: expected text or a list, got 3"),
        ("[a, 3]", "source.uri.1: expected text, got 3"),
        ("[a, 's3://k:hush@bucket/x']", "source: s3://…: expected s3://bucket/key without credentials"),
    ):
        assert wrong(job_file(GOOD), f"source.uri={given}").startswith(message)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("min_bytes=20", "source.min_bytes: expected a size such as 20MB, 512KiB or 100000, got '20'"),
        ("max_bytes=0", "source.max_bytes: expected more than 0, got 0"),
        ("modified_since=soon", "source.modified_since: expected a date such as 2024-05-31"),
        ("modified_since=2024", "source.modified_since: expected a date such as 2024-05-31, got 2024"),
        ("http_hosts=example.org", "source.http_hosts: expected a list, got 'example.org'"),
        ("http_hosts=['https://example.org']", "source.http_hosts: expected hosts such as example.org"),
        ("exclude=thumbs", "source.exclude: expected a list, got 'thumbs'"),
        ("max_byte=3", "source.max_byte: unknown key; did you mean 'max_bytes'?"),
    ],
)
def test_filters_and_hosts_are_checked(job_file: Any, option: str, message: str) -> None:
    value = "'20'" if option == "min_bytes=20" else option.partition("=")[2]
    assert wrong(job_file(GOOD), f"source.{option.partition('=')[0]}={value}").startswith(message)


def test_min_bytes_above_max_bytes_is_refused(job_file: Any) -> None:
    assert "expected min_bytes up to max_bytes" in wrong(job_file(GOOD), "source.min_bytes=2", "source.max_bytes=1")


def test_sections_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        ModelConfig(model="m").top_k = 5  # type: ignore[misc]  # that it fails is the point


STORAGE = {
    "endpoint_url": "http://127.0.0.1:9000",
    "region": "x",
    "path_style": True,
    "anonymous": True,
    "profile": "p",
}


def test_storage_options_are_not_part_of_the_identity() -> None:
    plain = {
        "source": {"uri": "s3://photos/2019/"},
        "models": [{"model": "resnet50"}],
        "output": {"uri": "s3://results/a"},
    }
    job = Job.model_validate(plain)
    other = Job.model_validate(
        {
            **plain,
            "source": {**plain["source"], **STORAGE},
            "models": [{"model": "resnet50", **STORAGE}],
            "output": {**plain["output"], **STORAGE},
        }
    )
    assert other.output.location == Location("s3://results/a", StorageOptions(**STORAGE))
    assert other.source.storage_options == other.models[0].storage_options == StorageOptions(**STORAGE)
    assert job.output.location.options == StorageOptions()
    assert other.identity() == job.identity()
    assert Job.model_validate(other.model_dump(mode="json", by_alias=True)) == other


@pytest.mark.parametrize("section", ["source", "output"])
@pytest.mark.parametrize(
    "wrong",
    [
        {"uri": "s3://AKIA:hush@bucket/x"},
        {"uri": "s3://bucket/x?X-Amz-Signature=hush"},
        {"uri": "https://user:hush@example.org/x"},
        {"uri": "s3://bucket/x", "endpoint_url": "http://key:hush@127.0.0.1"},
    ],
)
def test_secrets_in_a_job_are_refused_and_not_repeated(section: str, wrong: dict[str, str]) -> None:
    parts = {"source": {"uri": "photos"}, "output": {"uri": "out"}, section: wrong}
    with pytest.raises(JobError) as refused:
        load_job(defaults={**parts, "models": [{"model": "resnet50"}]})
    assert "hush" not in str(refused.value)
    assert str(refused.value).startswith(section)
