"""Failed images again, and images that came, changed or went, through the command line on a real Ray head."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

import pandas as pd
import pytest
import yaml

import cvbatch as api
from tests.conftest import Answer, Cvbatch, make_photo

MODEL: Final = '''
"""A model of the tests: the width of an image says what happens to it, as long as nothing is mended."""

import os
import signal
from pathlib import Path

import numpy as np

from cvbatch.images.preprocess import View

BAD, BUSY, DEADLY = 41, 42, 43


class Moody:
    """How bright an image is."""

    task = "classification"
    view = View(resize=(8, 8))
    categories = ("dark", "bright")

    def predict(self, images, sizes):
        if not Path(__file__).with_name("mended").exists():
            widths = {width for width, _ in sizes}
            if DEADLY in widths:
                os.kill(os.getpid(), signal.SIGKILL)
            if BUSY in widths:
                raise TimeoutError("too busy")
            if BAD in widths:
                raise ValueError("too bad")
        light = np.array([image.mean() / 255 for image in images])
        return np.stack([1 - light, light], axis=1)
'''
PLAIN, BAD, BUSY, DEADLY = range(40, 44)
LATER: Final = 1_900_000_000.0


class Archive:
    """A folder of photos, a job beside its model, and what a run of it left."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.output = folder, folder / "out"
        (folder / "moody.py").write_text(MODEL)
        content = {
            "source": {"uri": "photos"},
            "models": [{"model": "python:moody:Moody"}],
            "compute": {"unit_rows": 4},
            "output": {"uri": "out"},
        }
        (folder / "job.yaml").write_text(yaml.safe_dump(content))

    def photo(self, number: int, width: int = PLAIN, seed: int | None = None) -> Path:
        path = self.folder / "photos" / f"{number:02d}.png"
        return make_photo(path, seed=number if seed is None else seed, size=(width, 30))

    def photos(self, *widths: int) -> None:
        for number, width in enumerate(widths):
            self.photo(number, width)

    def mend(self) -> None:
        (self.folder / "mended").touch()

    def files(self) -> dict[str, str]:
        """Status of the rows of each data file."""
        paths = sorted((self.output / "data").iterdir())
        return {path.name: "/".join(sorted(set(pd.read_parquet(path)["status"]))) for path in paths}

    def frame(self) -> pd.DataFrame:
        """One row per planned image, as cvbatch and as a plain reader of the folder see it."""
        frame = api.read(str(self.output))
        assert frame["row_id"].tolist() == list(range(len(frame)))
        plain = pd.read_parquet(self.output).sort_values("row_id", ignore_index=True)
        # whole numbers with gaps are floating-point to a plain reader
        planned = frame.drop(columns="source_removed")
        pd.testing.assert_frame_equal(plain.astype(planned.dtypes.to_dict()), planned)
        return frame

    def failed(self) -> dict[int, str]:
        frame = self.frame()
        wrong = frame[frame["status"] == "error"]
        return dict(zip(wrong["row_id"].tolist(), wrong["error_type"].tolist(), strict=True))


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive(tmp_path)


def done(answer: Answer) -> Any:
    """What a command that went well printed: JSON, and nothing else."""
    assert answer.code == 0, answer.err
    assert "Traceback" not in answer.err
    assert answer.out.count("\n") == 1
    return answer.json


def test_a_retry_labels_transient_failures_or_all(archive: Archive, cvbatch_on_head: Cvbatch) -> None:
    archive.photos(*[PLAIN] * 3, BUSY, PLAIN, BAD, *[PLAIN] * 6)
    (archive.folder / "photos" / "07.png").write_text("not an image")
    first = done(cvbatch_on_head("run", "job.yaml", "--json"))
    assert first["errors"] == {"TimeoutError": 1, "ValueError": 1, "UnknownFormat": 1}
    good = {name for name, status in archive.files().items() if status == "ok"}
    archive.mend()

    busy = done(cvbatch_on_head("retry", "out", "--json"))

    assert (busy["rows"], busy["rows_this_start"], busy["finished"]) == (12, 1, True)
    assert archive.failed() == {5: "ValueError", 7: "UnknownFormat"}
    archive.photo(7)

    rest = done(cvbatch_on_head("retry", "out", "--errors", "all", "--json"))

    assert (rest["rows"], rest["rows_this_start"], rest["errors"]) == (12, 2, {})
    assert archive.failed() == {}
    assert good <= set(archive.files()), "good rows stay where they are"
    assert set(archive.files().values()) == {"ok"}
    assert done(cvbatch_on_head("verify", "out", "--deep", "--json"))["proven"] is True
    log = len(list((archive.output / "_cvbatch" / "log").iterdir()))
    assert done(cvbatch_on_head("retry", "out", "--errors", "all", "--json"))["errors"] == {}
    assert len(list((archive.output / "_cvbatch" / "log").iterdir())) == log, "nothing was started"

    moved = archive.folder / "moved"
    (archive.folder / "photos").rename(moved)
    on_moved = ("run", "job.yaml", "--set", "source.uri=moved", "--moved-from", "photos", "--json")
    assert done(cvbatch_on_head(*on_moved))["errors"] == {}, "a repaired file has another size than planned"
    assert {str(Path(uri).parent) for uri in api.read(str(archive.output))["image_uri"]} == {str(moved)}
    make_photo(moved / "06.png", seed=99, size=(PLAIN + 9, 30))
    (archive.folder / "again").symlink_to(moved)
    refused = cvbatch_on_head("run", "job.yaml", "--set", "source.uri=again", "--moved-from", "moved", "--json")
    assert refused.code == 2
    assert "06.png has" in refused.err


def test_an_update_takes_in_what_came_changed_and_went(archive: Archive, cvbatch_on_head: Cvbatch) -> None:
    archive.photos(*[PLAIN] * 10)
    done(cvbatch_on_head("run", "job.yaml", "--json"))
    before = archive.frame()
    assert not before["source_removed"].any()
    archive.photo(3, seed=99)
    (archive.folder / "photos" / "05.png").unlink()
    os.utime(archive.folder / "photos" / "06.png", (LATER, LATER))
    archive.photo(20)
    archive.photo(21)

    updated = done(cvbatch_on_head("run", "job.yaml", "--update", "--json"))

    assert (updated["rows"], updated["rows_this_start"], updated["errors"]) == (12, 3, {})
    after = archive.frame()
    assert [Path(uri).name for uri in after["image_uri"][10:]] == ["20.png", "21.png"]
    assert after.loc[after["source_removed"], "row_id"].tolist() == [5]
    unchanged = [row for row in range(10) if row not in (3, 5)]
    pd.testing.assert_frame_equal(after.iloc[unchanged], before.iloc[unchanged])
    assert after["image_uri"][3] == before["image_uri"][3]
    for column in ("content_sha256", "classification_score"):
        assert after[column][3] != before[column][3]
        assert after[column][5] == before[column][5], "what is gone keeps its predictions"
    status = done(cvbatch_on_head("status", "out", "--json"))
    assert (status["rows_planned"], status["to_go"], status["removed"]) == (12, 0, 1)
    assert done(cvbatch_on_head("verify", "out", "--deep", "--json"))["proven"] is True

    again = done(cvbatch_on_head("run", "job.yaml", "--update", "--json"))

    assert (again["rows"], again["rows_this_start"]) == (12, 0)
    pd.testing.assert_frame_equal(archive.frame(), after)


def test_an_update_of_a_source_that_is_not_there_changes_nothing(archive: Archive, cvbatch_on_head: Cvbatch) -> None:
    archive.photos(*[PLAIN] * 3)
    done(cvbatch_on_head("run", "job.yaml", "--json"))
    before = archive.frame()
    for path in (archive.folder / "photos").iterdir():
        path.unlink()
    refused = cvbatch_on_head("run", "job.yaml", "--update")
    assert (refused.code, refused.out, refused.err.count("\n")) == (2, "", 1)
    assert "holds no images any more" in refused.err
    pd.testing.assert_frame_equal(archive.frame(), before)


@pytest.mark.slow
def test_json_is_all_that_is_printed_when_a_process_dies(archive: Archive, cvbatch: Cvbatch) -> None:
    """On a head of its own, whose processes could write to the same terminal."""
    archive.photos(*[PLAIN] * 5, DEADLY, PLAIN, PLAIN)
    answer = cvbatch("run", "job.yaml", "--json")
    assert done(answer)["errors"] == {"ProcessDied": 1}
    assert answer.err == ""
    assert archive.failed() == {5: "ProcessDied"}
