"""Edits of images that kill, hang or fail their process: one error row for each of them, one file for each other."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
from ray import cloudpickle

from cvbatch.config.compute import ComputeConfig
from cvbatch.edits.base import EditedImage, EncodedFile, OriginalImage
from cvbatch.edits.editing import Attempt
from cvbatch.edits.functions import EditRequest, SilentObserver
from tests.edits.made_runs import made_run
from tests.edits.test_editing import left_half, save_noise

COUNT = 16


@dataclass(frozen=True)
class Fault:
    """An edit that copies images, but for the one called `3.png`."""

    name: ClassVar[str] = "fault"
    how: str

    def paths_of(self, image: OriginalImage) -> list[str]:
        return [image.path]

    def edit_image(self, image: OriginalImage) -> EditedImage:
        if image.path == "3.png":
            if self.how == "kills":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.how == "hangs":
                time.sleep(3600)
            raise KeyError("no such colour")
        return EditedImage([EncodedFile(image.path, image.data)])


@pytest.fixture
def by_value() -> Iterator[None]:
    """Workers get the edit of this file itself: they cannot import it."""
    module = sys.modules[__name__]
    cloudpickle.register_pickle_by_value(module)
    yield
    cloudpickle.unregister_pickle_by_value(module)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:The maximum number")  # of Ray's own code
@pytest.mark.parametrize(("how", "kind"), [("raises", "KeyError"), ("kills", "ProcessDied"), ("hangs", "TimedOut")])
def test_one_image_does_not_harm_the_others(
    tmp_path: Path, ray_head: str, monkeypatch: pytest.MonkeyPatch, by_value: None, how: str, kind: str
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", ray_head)
    for number in range(COUNT):
        save_noise(tmp_path / "photos" / f"{number}.png", number)
    run = made_run(str(tmp_path / "photos"), str(tmp_path / "run"), left_half)
    attempt = Attempt(SilentObserver(), compute=ComputeConfig.model_validate({"stalled_after": "4s"}))
    request = EditRequest(run, str(tmp_path / "to"), None, 0.2, True, None, None, attempt)
    answer = request.run_edit(Fault(how))
    assert (answer.images, answer.edited, answer.errors) == (COUNT, COUNT - 1, {kind: 1})
    names = {path.name for path in (tmp_path / "to").iterdir()}
    assert names == {"_audit", *(f"{number}.png" for number in range(COUNT) if number != 3)}
