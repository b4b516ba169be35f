"""How long a report takes, how large it is, and how fast a browser opens it: `python jobs/benchmark/answers_report.py`.

    python jobs/benchmark/answers_report.py PHOTOS [CASE ...] [--work FOLDER]

PHOTOS is a folder of photos, from which 20,000 JPEGs of 640 × 480 are cut. Prints a line of JSON for each case. Each
report is written by a process of its own, twice: the second one has nothing new to draw. A run is kept in FOLDER, and
used again.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing import Pool
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

SIZE = (640, 480)
BOXES, TOP, DIMENSION, MASKS = 10, 5, 1280, 300
PHOTOS = 20_000
FILE_ROWS = 10_000
WIDE = "写真の分類"
"""Three bytes a letter in UTF-8, six in the JSON of the page."""


@dataclass(frozen=True)
class Case:
    """A run to report."""

    rows: int
    models: tuple[str, ...]
    labels: int = 1000
    long_names: bool = False
    images: int = 240
    photos: int = PHOTOS


CASES = {
    "three models": Case(100_000, ("classification", "detection", "embedding")),
    "thumbnails": Case(20_000, ("classification",), images=1000),
    "masks": Case(20_000, ("segmentation",), labels=80),
    "masks, 1,000 images": Case(20_000, ("segmentation",), labels=80, images=1000),
    "embeddings": Case(100_000, ("embedding",)),
    "long names": Case(100_000, ("classification", "detection", "embedding"), long_names=True, photos=2_000),
    "long names, 1,000 images": Case(
        100_000, ("classification", "segmentation", "embedding"), long_names=True, images=1000, photos=2_000
    ),
}


def make_photos(source: Path, folder: Path, count: int) -> None:
    """Cut photos of one size from others, no two with the same bytes."""
    paths = sorted(path for path in source.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
    folder.mkdir(parents=True)
    with Pool() as pool:
        pool.starmap(_cut_photos, [(paths, folder, range(start, count, 16)) for start in range(16)])


def _cut_photos(paths: list[Path], folder: Path, numbers: range) -> None:
    from PIL import Image

    for number in numbers:
        generator = np.random.default_rng(number)
        image = Image.open(paths[number % len(paths)]).convert("RGB")
        share = generator.uniform(0.6, 1)
        width, height = int(image.width * share), int(image.height * share)
        x, y = int(generator.uniform(0, image.width - width)), int(generator.uniform(0, image.height - height))
        cut = image.resize(SIZE, Image.Resampling.BICUBIC, box=(x, y, x + width, y + height))
        with io.BytesIO() as file:
            cut.save(file, "JPEG", quality=85)
            place = folder / f"{number % 20:02d}" / f"{number:06d}.jpg"
            place.parent.mkdir(exist_ok=True)
            place.write_bytes(file.getvalue())


def link_photos(photos: Path, folder: Path, count: int) -> None:
    """The same photos under names as long as a file system takes them."""
    for number, path in enumerate(sorted(photos.rglob("*.jpg"))[:count]):
        place = folder / (WIDE * 16) / (WIDE * 15 + f" {number % 30:02d}") / (WIDE * 15 + f" {number:06d}.jpg")
        place.parent.mkdir(parents=True, exist_ok=True)
        os.link(path, place)


def make_run(photos: Path, output: Path, case: Case) -> None:
    """Write a finished run as cvbatch would, without Ray."""
    from cvbatch.config.job import Job
    from cvbatch.models.spec import rows_schema
    from cvbatch.output.commit_log import CommitLog
    from cvbatch.output.data_files import WriteContext, write_data_files
    from cvbatch.output.manifest import finish_run
    from cvbatch.output.store import LocalStore
    from cvbatch.planning.plan import make_plan
    from cvbatch.sources import open_source

    files = [(str(path), path.read_bytes()) for path in sorted(photos.rglob("*.jpg"))]
    facts = [(name, hashlib.sha256(data).hexdigest(), len(data)) for name, data in files]
    manifest = output.with_name(f"{output.name}.csv")
    manifest.write_text("uri\n" + "".join(f"{facts[row % len(facts)][0]}\n" for row in range(case.rows)))
    models = [make_model(task, case) for task in case.models]
    asked = Job.model_validate(
        {"source": {"uri": str(manifest)}, "models": [{"model": "python:m:f"}], "output": {"uri": str(output)}}
    )
    store = LocalStore(str(output))
    store.check_writable()
    plan = make_plan(store, asked, models, open_source(asked.source))
    log = CommitLog(store, plan.rows)
    log.open_epoch()
    schema = rows_schema(models)
    masks = draw_masks() if "segmentation" in case.models else []
    for low in range(0, case.rows, FILE_ROWS):
        columns = make_columns(facts, models, masks, range(low, min(low + FILE_ROWS, case.rows)))
        count = len(columns["row_id"])
        arrays = [columns.get(field.name, pa.nulls(count, field.type)).cast(field.type) for field in schema]
        table = pa.Table.from_arrays(arrays, schema=schema)
        log.commit_files(write_data_files(WriteContext(store.root, log.epoch, schema), [table]).files)
    finish_run(log)


def make_model(task: str, case: Case) -> Any:
    """A model of made-up answers."""
    from cvbatch.images.preprocess import View
    from cvbatch.models.spec import ModelSpec

    names = tuple((WIDE * 40 if case.long_names else "class ") + f"{number:04d}" for number in range(case.labels))
    options: dict[str, Any] = {"categories": names}
    if task == "embedding":
        options = {"dimension": DIMENSION, "dtype": "float16"}
    if task == "segmentation":
        task, options["masks"] = "detection", True
    return ModelSpec(alias=task, task=task, kind="python", name="m:f", view=View(resize=8), top_k=TOP, **options)


def draw_masks() -> list[bytes]:
    """Masks of ragged shapes."""
    from cvbatch.tasks.masks import encode_mask

    y, x = np.mgrid[: SIZE[1], : SIZE[0]]
    masks = []
    for number in range(MASKS):
        generator = np.random.default_rng(number)
        across, down = generator.uniform(0.2, 0.8, 2) * SIZE
        angles = np.arctan2(y - down, x - across)
        radius = generator.uniform(30, 150) * (
            1 + sum(0.3 / k * np.sin(k * angles + number * k) for k in (2, 3, 7, 19))
        )
        masks.append(encode_mask(np.hypot(x - across, y - down) < radius))
    return masks


def make_columns(
    facts: list[tuple[str, str, int]], models: list[Any], masks: list[bytes], rows: range
) -> dict[str, pa.Array]:
    """Columns of some rows; a third of the labels is of few classes, as in archives."""
    generator, count = np.random.default_rng(rows.start), len(rows)
    chosen = [facts[row % len(facts)] for row in rows]
    columns = {
        name: pa.array(values)
        for name, values in zip(("image_uri", "content_sha256", "image_bytes"), zip(*chosen, strict=True), strict=True)
    }
    columns |= {"row_id": pa.array(np.arange(rows.start, rows.stop)), "status": pa.array(["ok"] * count)}
    columns |= {
        name: pa.array(np.full(count, side, np.int32)) for name, side in zip(("width", "height"), SIZE, strict=True)
    }
    columns["format"] = pa.array(["jpeg"] * count)
    for model in models:
        names = pa.array([str(name) for name in model.categories])
        for name, values in dict(_answers_of(model, names, masks, count, generator)).items():
            columns[f"{model.alias}_{name}"] = values
    return columns


def _answers_of(
    model: Any, names: pa.Array, masks: list[bytes], count: int, generator: np.random.Generator
) -> Iterator[tuple[str, pa.Array]]:
    if model.dimension:
        vectors = generator.standard_normal((count, model.dimension), np.float32)
        vectors *= np.arange(1, model.dimension + 1) ** -0.5
        yield "vector", _lists(vectors.astype(np.float16).ravel(), model.dimension)
        return
    several = TOP if model.task == "classification" else BOXES
    ids = pa.array((len(names) * generator.random(count * several) ** 3).astype(np.int32))
    scores = -np.sort(-generator.random((count, several), np.float32), axis=1).ravel()
    if model.task == "classification":
        first = np.arange(count) * several
        yield from (("label_id", ids.take(first)), ("label", names.take(ids.take(first))))
        yield from (("score", pa.array(scores[first])), ("top_label_ids", _lists(ids, several)))
        yield from (("top_labels", _lists(names.take(ids), several)), ("top_scores", _lists(scores, several)))
        return
    corners = np.sort(generator.random((count * several, 2, 2), np.float32), axis=1) * np.array(SIZE, np.float32)
    yield from (("boxes", _lists(_lists(corners.astype(np.float32).ravel(), 4), several)),)
    yield from (("label_ids", _lists(ids, several)), ("labels", _lists(names.take(ids), several)))
    yield "scores", _lists(scores, several)
    if masks:
        numbers = pa.array(generator.integers(0, len(masks), count * several))
        yield "masks", _lists(pa.array(masks, pa.binary()).take(numbers), several)


def _lists(values: Any, length: int) -> pa.Array:
    offsets = pa.array(np.arange(len(values) // length + 1) * length, pa.int32())
    return pa.ListArray.from_arrays(offsets, values if isinstance(values, pa.Array) else pa.array(values))


def measure_report(output: str, images: int) -> dict[str, Any]:
    """Write a report, and measure this process."""
    import cvbatch

    started, cpu = time.perf_counter(), time.process_time()
    answer = cvbatch.write_report(output, images=images)
    used = {"seconds": time.perf_counter() - started, "cpu_seconds": time.process_time() - cpu}
    files = [path.stat().st_size for path in Path(output, "_report").rglob("*.*") if path.is_file()]
    return {
        **{name: round(value, 2) for name, value in used.items()},
        "peak_megabytes": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3),
        "page_bytes": answer.bytes,
        "folder_bytes": sum(files),
        "images": answer.images,
        "thumbnails": answer.thumbnails,
        "drawn": answer.drawn,
        "notes": answer.notes,
        "path": answer.path,
    }


def open_page(path: str) -> dict[str, float]:
    """Seconds until a browser has loaded the page, and until a person could scroll it: after two frames were drawn."""
    from playwright.sync_api import sync_playwright

    program, seconds = shutil.which("chromium"), []
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        for _ in range(3):
            page = chromium.new_page(viewport={"width": 1280, "height": 900})
            started = time.perf_counter()
            page.goto(Path(path).as_uri())
            loaded = time.perf_counter() - started
            page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
            seconds.append((round(loaded, 2), round(time.perf_counter() - started, 2)))
            page.close()
        chromium.close()
    return dict(zip(("loaded_seconds", "drawn_seconds"), sorted(seconds, key=lambda pair: pair[1])[1], strict=True))


def ensure_run(name: str, source: Path, work: Path) -> Path:
    """Make the run of a case, if it is not there; returns its output."""
    case, output = CASES[name], work / name.replace(",", "").replace(" ", "-")
    photos = work / "photos"
    if not photos.exists():
        make_photos(source, photos, PHOTOS)
    if case.long_names:
        photos, short = work / "long", photos
        if not photos.exists():
            link_photos(short, photos, case.photos)
    if not output.exists():
        make_run(photos, output, case)
    return output


def measure_case(name: str, source: Path, work: Path) -> dict[str, Any]:
    """Make a run, if it is not there, and report it twice."""
    case, output = CASES[name], _run_apart(str(source), name, "--work", str(work), "--make")
    shutil.rmtree(Path(output, "_report"), ignore_errors=True)
    first, second = (_run_apart("--one", output, str(case.images)) for _ in range(2))
    again = {f"second_{key}": second[key] for key in ("seconds", "drawn")}
    return {"case": name, "rows": case.rows, **first, **again, **open_page(first["path"])}


def main() -> None:
    """Measure the cases that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", nargs="?", type=Path)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=", ".join(CASES))
    parser.add_argument("--work", type=Path, help="folder of the photos and runs (default: one that is removed)")
    parser.add_argument("--make", action="store_true", help="only make the run")
    parser.add_argument("--one", nargs=2, metavar=("OUTPUT", "IMAGES"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure_report(options.one[0], int(options.one[1]))))
        return
    with tempfile.TemporaryDirectory(prefix="cvbatch-report-") as folder:
        work, source = options.work or Path(folder), options.photos.absolute()
        for name in options.cases or CASES:
            made = str(ensure_run(name, source, work)) if options.make else measure_case(name, source, work)
            print(json.dumps(made), flush=True)


def _run_apart(*arguments: str) -> Any:
    """The peak of a process counts what it was forked from, so this one stays small."""
    done = subprocess.run([sys.executable, __file__, *arguments], stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


if __name__ == "__main__":
    main()
