"""Settings measured with a real network on real files."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from cvbatch.compute.decode_stage import DecodeOptions
from cvbatch.compute.settings import REFERENCE, Setting
from cvbatch.compute.tuning import Trial, measure
from cvbatch.config import ModelConfig
from cvbatch.models.registry import resolve
from cvbatch.sources.files import FileSource
from tests.conftest import make_photo

SCALED = Setting("fp32", scaled_decode=True)


def measured(folder: Path, *tried: Setting) -> list[dict[str, Any]]:
    specs = resolve([ModelConfig(model="efficientnet_lite0")])
    rows = pa.concat_tables(FileSource(str(folder)).chunks())
    rows = rows.add_column(0, "row_id", pa.array(range(rows.num_rows), pa.int64()))
    decode = DecodeOptions(tuple(spec.view for spec in specs), 178_000_000)
    return measure(rows, Trial(specs, decode, "cpu", 2, None, tried))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Large photos, a small one and a broken one."""
    folder = tmp_path_factory.mktemp("large")
    for number in range(3):
        make_photo(folder / f"{number}.jpg", seed=number, size=(1600, 1100))
    make_photo(folder / "small.png", size=(50, 40))
    (folder / "broken.jpg").write_bytes(b"no")
    return folder


def test_every_setting_is_measured_and_compared(folder: Path) -> None:
    reference, scaled, bf16 = measured(folder, REFERENCE, SCALED, Setting("bf16"))
    assert reference["setting"] == asdict(REFERENCE)
    assert (reference["passed"], reference["agreement"]) == (True, {})
    for each in (reference, scaled, bf16):
        assert each["images"] == 4
        assert all(rate > 0 for rate in each["rates"].values())
        assert each["view_bytes"] == 224 * 224 * 3
    assert scaled["agreement"]["classification"]["same_label"] == 1
    assert 0 < bf16["agreement"]["classification"]["mean_score_difference"] < 0.1


def test_scaling_is_not_tried_where_no_image_is_large(tmp_path: Path) -> None:
    make_photo(tmp_path / "small.jpg", size=(200, 150))
    assert [each["setting"] for each in measured(tmp_path, REFERENCE, SCALED)] == [asdict(REFERENCE)]
