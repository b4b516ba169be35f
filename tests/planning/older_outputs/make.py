"""Makes the outputs that later versions are tested with; see the README beside it.

    cd CHECKOUT && PYTHONPATH=$PWD python .../older_outputs/make.py VERSION

Writes `VERSION.tar.xz` beside itself, with the code and the `tests` of the checkout.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import sys
import tarfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from cvbatch import pipeline
from cvbatch.config.compute import ComputeConfig
from cvbatch.engine.nodes import Cluster, ClusterNode
from cvbatch.engine.resource_plan import allocate_resources
from cvbatch.inference.settings import InferenceSettings
from cvbatch.output.lease import describe_process
from cvbatch.output.store import open_store
from cvbatch.runs.recompute import recompute_rows
from cvbatch.storage.location import Location
from cvbatch.tuning.certificate import MIN_IMAGES, choose_candidate, save_run_settings
from tests.engines import FakeEngine
from tests.samples import job, photos, spec
from tests.test_pipeline import Seen

ARCHIVE = Path("/archive")
"""Where the photos are; tests replace it by a folder of theirs."""
ROWS = 6


class Engine(FakeEngine):
    """A fake one that has measured settings and says on which machine."""

    def prepare_engine(self, *what: Any, **facts: Any) -> FakeEngine:
        super().prepare_engine(*what, **facts)
        compute = ComputeConfig()
        self.cluster = Cluster((ClusterNode("10.0.0.1", 4, host="vm"),), local=True, object_store_bytes=1 << 30)
        self.tuning_result = save_run_settings(
            open_store(self._output), choose_candidate([trial(1.0), trial(2.0)], has_answers=True)
        )
        self.resource_plan = allocate_resources(self.cluster, compute, [spec()], ROWS, self.tuning_result)
        return self


def trial(together: float) -> dict[str, Any]:
    """One setting that was measured."""
    setting = dataclasses.asdict(InferenceSettings(precision="fp32" if together == 1 else "bf16"))
    rates = {"decode_per_core": 9.0, "predict": together, "together": together}
    agreement = {"classification": {"agree": 1.0}}
    return {"setting": setting, "images": MIN_IMAGES, "rates": rates, "agreement": agreement, "passed": True}


def start(work: Callable[..., object], **facts: Any) -> None:
    """One start, with an engine that is told so much; it may be one that is interrupted."""

    @contextlib.contextmanager
    def start_engine(output: Location, *_: object) -> Iterator[Engine]:
        engine = Engine(output, unit_rows=1)
        engine.change(facts)
        yield engine

    process = {**describe_process(), "host": "vm"}
    with (
        mock.patch.dict(os.environ, {"CVBATCH_CHECKPOINT_RECORDS": "2"}),
        mock.patch("cvbatch.output.commit_log.describe_process", return_value=process),
        mock.patch.object(pipeline, "recompute_rows", partial(recompute_rows, rows_at_once=1)),
        mock.patch("platform.node", return_value="vm"),
        mock.patch.object(sys, "argv", ["cvbatch", "run"]),
    ):
        try:
            work(start_engine=start_engine)
        except KeyboardInterrupt:
            return


def interrupted_after(units: int) -> Callable[[], None]:
    """What `after_unit` does that ends a start after so many units."""
    left = iter(range(units - 1))

    def count() -> None:
        if next(left, None) is None:
            raise KeyboardInterrupt

    return count


def finished(source: Path, output: Path) -> None:
    """Planned with a limit of four, then without, then updated after `0004.jpg` had changed; row 1 is an error."""
    start(partial(pipeline.run, job(source, output, source={"limit": 4}), Seen()), failed={1})
    start(partial(pipeline.run, job(source, output), Seen()))
    (source / "0004.jpg").write_bytes(b"changed")
    start(partial(pipeline.run, job(source, output), Seen(), refresh=True))


def half(source: Path, output: Path) -> None:
    """Interrupted after its second commit."""
    start(partial(pipeline.run, job(source, output), Seen()), after_unit=interrupted_after(2))


def retried(source: Path, output: Path) -> None:
    """Finished with errors in rows 1 and 2; `retry` was interrupted after it had replaced row 1."""
    start(partial(pipeline.run, job(source, output), Seen()), failed={1, 2})
    start(partial(pipeline.retry, str(output), "all", Seen()), after_unit=interrupted_after(2))


def main(version: str) -> None:
    """Make them, and pack them."""
    with tarfile.open(Path(__file__).with_name(f"{version}.tar.xz"), "w:xz") as archive:
        for make in (finished, half, retried):
            shutil.rmtree(ARCHIVE, ignore_errors=True)
            output = ARCHIVE / make.__name__
            make(photos(ARCHIVE / "photos", ROWS), output)
            archive.add(output, make.__name__)
    shutil.rmtree(ARCHIVE)


if __name__ == "__main__":
    main(sys.argv[1])
