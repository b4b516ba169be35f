"""Batches of a unit, decoded on the host or on the device."""

from __future__ import annotations

import io
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from cvbatch.images.preprocess import View
from cvbatch.sources.entries import entry_table
from cvbatch.stages.decode import DecodeOptions, fetch_and_decode
from cvbatch.stages.unit_predictor import PredictorBatch, load_decoder, split_unit
from cvbatch.testing import generate_images

VIEW, WHOLE = View(resize=32, crop=(32, 32)), View()
ON_HOST = DecodeOptions((VIEW, WHOLE), 1_000_000)
ON_DEVICE = replace(ON_HOST, on_device=True)


LARGE_TENSOR = """
from cvbatch.stages.unit_predictor import load_predictor
from cvbatch.inference.settings import REFERENCE

load_predictor([], "cpu", REFERENCE, None, 1)

import torch

tensor = torch.empty(64 << 20, dtype=torch.uint8)
middle = tensor.data_ptr() + (32 << 20)
here = False
for line in open("/proc/self/smaps"):
    first, *rest = line.split()
    if not first.endswith(":"):
        low, high = (int(end, 16) for end in first.split("-"))
        here = low <= middle < high
    elif here and first == "VmFlags:":
        print(*rest)
"""


def unit(folder: Path, options: DecodeOptions) -> pa.Table:
    """A PNG, an upright and a rotated photo, a truncated one, and one without a header."""
    exif = Image.Exif()
    exif[0x0112] = 8
    first, second, third, fourth = generate_images([(80, 60)] * 4)
    first.save(folder / "0.png")
    second.save(folder / "1.jpg")
    third.save(folder / "2.jpg", exif=exif)
    stream = io.BytesIO()
    fourth.save(stream, "jpeg")
    whole = stream.getvalue()
    (folder / "3.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "4.jpg").write_bytes(whole[:30])
    paths = sorted(folder.iterdir())
    rows = entry_table([str(path).encode() for path in paths], [None] * len(paths), [7] * len(paths))
    return fetch_and_decode(rows.add_column(0, "row_id", pa.array(range(len(paths)))), options)


class Choosy:
    """A decoder that refuses every second image."""

    def __init__(self, decoder: Any) -> None:
        self._decoder = decoder

    def __call__(self, files: Any, turns: Any, sizes: Any) -> Any:
        results = self._decoder(files, turns, sizes)
        return [None if index % 2 else images for index, images in enumerate(results)]


def by_row(
    folder: Path, options: DecodeOptions, wrap: Any = lambda decoder: decoder
) -> dict[int, tuple[str, Any, list[Any]]]:
    """Status, size and pixels of each row."""
    rows = {}
    for batch in split_unit(unit(folder, options), options, wrap(load_decoder(options, "cpu"))):
        for index, (row, status) in enumerate(
            zip(*(batch.table[n].to_pylist() for n in ("row_id", "status")), strict=True)
        ):
            rows[row] = (status, batch.sizes[index], [images[index] for images in batch.views.values()])
    return rows


def test_device_and_host_decode_to_the_same_pixels(tmp_path: Path) -> None:
    host, device = by_row(tmp_path, ON_HOST), by_row(tmp_path, ON_DEVICE)
    assert sorted(device) == sorted(host) == [0, 1, 2, 3, 4]
    assert [host[row][:2] for row in range(5)] == [device[row][:2] for row in range(5)]
    assert [host[row][0] for row in range(5)] == ["ok", "ok", "ok", "error", "error"]
    assert device[2][1] == (60, 80)
    for row in range(3):
        for host_pixels, device_pixels in zip(host[row][2], device[row][2], strict=True):
            assert host_pixels.shape == tuple(device_pixels.shape)
            assert np.abs(np.asarray(device_pixels).astype(int) - host_pixels).max() <= 2


def test_the_host_decodes_what_the_device_cannot(tmp_path: Path) -> None:
    host, mixed = by_row(tmp_path, ON_HOST), by_row(tmp_path, ON_DEVICE, Choosy)
    assert [mixed[row][:2] for row in range(5)] == [host[row][:2] for row in range(5)]
    assert isinstance(mixed[2][2][0], np.ndarray)
    none = by_row(tmp_path, ON_DEVICE, lambda _: lambda files, *_: [None] * len(files))
    assert [none[row][:2] for row in range(5)] == [host[row][:2] for row in range(5)]


@pytest.mark.parametrize("budget", [1, 15_000])
def test_device_batches_respect_the_pixel_budget(tmp_path: Path, budget: int) -> None:
    whole, options = unit(tmp_path, ON_DEVICE), replace(ON_DEVICE, max_unit_bytes=budget)
    batches = list(split_unit(whole, options, load_decoder(options, "cpu")))
    assert sorted(rows_of(batches)) == [0, 1, 2, 3, 4]
    on_device = [batch.table.num_rows for batch in batches if any(map(torch.is_tensor, batch.views[VIEW]))]
    assert on_device == [1, 1]


def test_rows_beyond_the_pixel_budget_are_predicted(tmp_path: Path) -> None:
    options = replace(ON_DEVICE, max_unit_bytes=1)
    # the threads decide how many photos come before the PNG uses up the budget
    batches = list(split_unit(unit(tmp_path, options), options, load_decoder(options, "cpu")))
    assert sorted(rows_of(batches)) == [0, 1, 2, 3, 4]


def rows_of(batches: list[PredictorBatch]) -> list[int]:
    return [row for batch in batches for row in batch.table["row_id"].to_pylist()]


@pytest.mark.skipif(not Path("/sys/kernel/mm/transparent_hugepage").exists(), reason="the system has no huge pages")
def test_a_predict_process_uses_huge_pages() -> None:
    flags = subprocess.run([sys.executable, "-c", LARGE_TENSOR], capture_output=True, text=True, check=True).stdout
    assert "hg" in flags.split()
