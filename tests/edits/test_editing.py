"""Edits as jobs on a real Ray: one file or one error row for each image, also after a kill; tests of one edit each."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cvbatch as api
from cvbatch.edits.editing import audit_location
from cvbatch.output.commit_log import CommitLog
from cvbatch.output.lease import Heartbeat
from cvbatch.output.manifest import finish_run
from cvbatch.output.store import open_store
from cvbatch.storage.location import Location
from tests.conftest import Cvbatch
from tests.edits.made_runs import Box, made_run


def left_half(uri: str, width: int, height: int) -> Sequence[Box]:
    """A person in the left half, and a car below the threshold in the right one."""
    return [("person", 0.9, (0, 0, width / 2, height)), ("car", 0.1, (width / 2, 0, width, height))]


def save_noise(path: Path, seed: int, size: tuple[int, int] = (40, 20)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(1, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(pixels).save(path)


def test_each_image_is_edited_once_or_is_an_error(tmp_path: Path, cvbatch_on_head: Cvbatch) -> None:
    names = ["a.png", "b/a.png", "b/ü \udcff.png"]
    for seed, name in enumerate(names):
        save_noise(tmp_path / "photos" / name, seed)
    (tmp_path / "photos" / "broken.png").write_bytes(b"no image")
    save_noise(tmp_path / "photos" / "gone.png", 7)
    save_noise(tmp_path / "photos" / "new.png", 8)
    run = made_run(str(tmp_path / "photos"), str(tmp_path / "run"), left_half)
    (tmp_path / "photos" / "gone.png").unlink()
    save_noise(tmp_path / "photos" / "new.png", 9)

    options = (
        "redact",
        run,
        "--classes",
        "person,car",
        "--how",
        "fill",
        "--grow",
        "0",
        "--to",
        tmp_path / "to",
        "--json",
    )
    answer = cvbatch_on_head(*options)
    assert answer.code == 0, answer.err
    assert answer.json["objects"] == {"person": 3}, "the car is below the threshold"
    assert answer.json["errors"] == {"TruncatedImage": 1, "NotFound": 1, "ChangedSinceRun": 1}
    written = {path.relative_to(tmp_path / "to") for path in (tmp_path / "to").rglob("*.png")}
    assert Path("_audit/near_misses.png") in written, "the car"
    written.remove(Path("_audit/near_misses.png"))
    assert written == {Path(name) for name in names}, "nothing of an image in error is written"
    for name in names:
        before, after = (np.asarray(Image.open(tmp_path / folder / name)) for folder in ("photos", "to"))
        assert (after[:, :20] == 0).all()
        assert (after[:, 20:] == before[:, 20:]).all()
    audit = api.read(answer.json["audit"])
    assert len(audit) == 6
    first = audit[audit.image_uri.str.endswith("photos/a.png")].iloc[0]
    assert list(first.edit_sha256s) == [hashlib.sha256((tmp_path / "to" / "a.png").read_bytes()).hexdigest()]
    assert first.content_sha256 == hashlib.sha256((tmp_path / "photos" / "a.png").read_bytes()).hexdigest()
    assert (list(first.edit_labels), list(first.edit_actions)) == (["person"], ["fill box"])

    named = {kind["error_type"]: kind for kind in answer.json["failed"]}
    assert named["NotFound"]["examples"][0]["image_uri"] == str(tmp_path / "photos" / "gone.png")
    assert named["ChangedSinceRun"]["advice"].startswith("cvbatch run … --update")
    shown = cvbatch_on_head(*options[:-1]).out
    assert "photos/new.png: the file is not the one" in shown
    assert "1 not edited; what to do: copy it again" in shown

    assert cvbatch_on_head(*options, "--strict").code == 3
    other = cvbatch_on_head(*(option.replace("fill", "blur") for option in map(str, options)))
    assert (other.code, "--to" in other.err, len(other.err.splitlines())) == (2, True, 1)
    retried = cvbatch_on_head("retry", answer.json["audit"])
    assert (retried.code, len(retried.err.splitlines())) == (2, 1)
    assert "is the audit of an edit" in retried.err

    save_noise(tmp_path / "photos" / "gone.png", 7)
    assert cvbatch_on_head(*options).json["edited"] == 3, "errors are not edited again without being asked"
    retried = cvbatch_on_head(*options, "--retry", "all")
    assert retried.json["errors"] == {"TruncatedImage": 1, "ChangedSinceRun": 1}
    assert (retried.json["edited"], (tmp_path / "to" / "gone.png").exists()) == (4, True)
    assert cvbatch_on_head("verify", answer.json["audit"], "--deep").code == 0

    log = CommitLog(open_store(run), 6)
    log.open_epoch()
    log.remove_rows([(0, 1)])
    finish_run(log)
    updated = cvbatch_on_head(*options)
    assert (updated.code, len(updated.err.splitlines())) == (2, 1)
    assert "before its images were updated: expected another --to" in updated.err


def test_a_killed_edit_goes_on(tmp_path: Path, ray_head: str, cvbatch_on_head: Cvbatch) -> None:
    count = 120
    for seed in range(count):
        save_noise(tmp_path / "photos" / f"{seed:03}.png", seed, (400, 300))
    run = made_run(str(tmp_path / "photos"), str(tmp_path / "run"), left_half)
    options = ["redact", run, "--classes", "person", "--how", "pixelate", "--to", str(tmp_path / "to"), "--json"]
    first = subprocess.Popen(
        [sys.executable, "-m", "cvbatch", *options],
        env={**os.environ, "RAY_ADDRESS": ray_head},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    data = tmp_path / "to" / "_audit" / "data"
    while not (data.is_dir() and any(data.iterdir())):
        assert first.poll() is None
        time.sleep(0.02)
    first.send_signal(signal.SIGKILL)
    first.wait()
    log = CommitLog(open_store(str(tmp_path / "to" / "_audit")), count)
    log.open_epoch()
    with Heartbeat(log.store, log.state):
        second = cvbatch_on_head(*options)
    assert (second.code, len(second.err.splitlines())) == (2, 1), second.err
    assert f"process {os.getpid()}" in second.err, "this process holds the edit now"
    answer = cvbatch_on_head(*options, "--wait")
    assert answer.code == 0, answer.err
    assert (answer.json["edited"], answer.json["files"]) == (count, count)
    assert cvbatch_on_head("verify", answer.json["audit"], "--deep").code == 0
    status = cvbatch_on_head("status", answer.json["audit"], "--json").json
    assert status["starts"] == 3, "the first attempt was killed before its end"
    audit = api.read(answer.json["audit"])
    for path, digest in zip(audit.edit_paths, audit.edit_sha256s, strict=True):
        assert hashlib.sha256((tmp_path / "to" / path[0]).read_bytes()).hexdigest() == digest[0]
    assert len(list((tmp_path / "to").iterdir())) == count + 1, "no temporary file is left over"


@pytest.mark.slow
def test_a_full_disk_ends_the_edit_and_room_lets_it_go_on(tmp_path: Path, cvbatch_on_head: Cvbatch) -> None:
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    for seed in range(40):
        save_noise(tmp_path / "photos" / f"{seed}.png", seed, (200, 150))
    run, disk = made_run(str(tmp_path / "photos"), str(tmp_path / "run"), left_half), tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], check=False).returncode:
        pytest.skip("this machine does not let us mount a file system")
    try:
        options = ["redact", run, "--classes", "person", "--to", disk / "to", "--json"]
        full = cvbatch_on_head(*options)
        assert (full.code, len(full.err.splitlines())) == (1, 1), full.err
        assert f"{disk}/to cannot be written: No space left on device" in full.err
        subprocess.run(["mount", "-o", "remount,size=50m", disk], check=True)
        answer = cvbatch_on_head(*options)
        assert answer.code == 0, answer.err
        assert (answer.json["edited"], answer.json["files"], answer.json["errors"]) == (40, 40, {})
        assert cvbatch_on_head("verify", answer.json["audit"], "--deep").code == 0
        assert {path.name for path in (disk / "to").iterdir()} == {"_audit", *(f"{seed}.png" for seed in range(40))}
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


@pytest.mark.parametrize("to", ["photos/new", "photos", ".", "run/edited"])
def test_a_place_within_the_source_or_the_run_is_refused(tmp_path: Path, to: str) -> None:
    save_noise(tmp_path / "photos" / "a.png", 0)
    run = made_run(str(tmp_path / "photos"), str(tmp_path / "run"), left_half)
    with pytest.raises(api.CvbatchError, match="apart from"):
        api.redact_images(run, str(tmp_path / to), classes=["person"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photos", "run"]


def test_the_audit_lies_beside_the_images() -> None:
    assert audit_location(Location.from_uri("s3://bucket/edited/")).uri == "s3://bucket/edited/_audit"
