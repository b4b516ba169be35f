"""A page with all parts, from numbers that are drawn anew the same way each time."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from cvbatch.report.page_data import (
    AnswerSection,
    DataTable,
    EmbeddingMap,
    Fact,
    GalleryImage,
    ImageElement,
    ImageGroup,
    LabelCount,
    LabelSection,
    LabelShares,
    Matrix,
    Mistake,
    MistakeGroup,
    MistakeKinds,
    ModelCard,
    PageData,
    Plot,
    ReportHead,
    ScoreHistogram,
)
from cvbatch.results.error_groups import ErrorKind, FailedImage

HOSTILE_NAME = '"><img src=x onerror=alert(1)>.jpg'
HOSTILE_TEXT = "</script><script>alert(2)</script><!-- \u2028 {{ 7 * 7 }}"
HOSTILE_LABELS = ["__proto__", "constructor", "toString", "hasOwnProperty", "</script>"]
ANIMALS = [
    "moped",
    "espresso",
    "tripod",
    "Egyptian cat",
    "football helmet",
    "disk brake",
    "lakeside",
    "steel arch bridge",
    "crane",
]
FOLDERS = [
    "2022/космодром",
    "2023/café",
    "2024/garage",
    "2024/a folder whose name is rather long, as names of folders are",
]
REASONS = ["sure", "unsure", "random", "rare class"]
SHAPES = [(400, 300), (300, 400), (400, 400), (400, 225), (360, 270), (400, 160)]
LABELS = [*ANIMALS, *HOSTILE_LABELS]


def sample_page(folder: Path, *, images: int = 24, labels: int = 40, points: int = 300) -> PageData:
    """Data of a page; its thumbnails are written below `folder`."""
    generator = np.random.default_rng(20)
    gallery = [_image(folder, row, generator) for row in range(images)]
    gallery[-1] = _failed(images - 1)
    return PageData(
        head=_head(images),
        errors=_errors(),
        skipped=[Fact(".xmp", "12"), Fact(".json", "3"), Fact(HOSTILE_NAME, "1")],
        labels=[_section("classification", labels, generator), _section("detection", labels, generator)],
        gallery=gallery,
        maps=[_map(images, points, generator)],
        answers=_answers(images, generator),
        notes=["Thumbnails of 3 images are left out: they are not within reach.", HOSTILE_TEXT],
    )


def _head(images: int) -> ReportHead:
    return ReportHead(
        title="Photos of the archive",
        sources=["s3://archive/photos/", "/mnt/archive/2024/" + "a long folder name " * 4],
        models=[
            ModelCard(
                "classification",
                "efficientnet_lite0",
                "classification",
                "embedded, sha256 9f2c41d07a",
                "Apache-2.0",
                1000,
            ),
            ModelCard("detection", "fasterrcnn_resnet50_fpn_v2", "detection", "COCO_V1, sha256 dd69338a1c", None, 80),
            ModelCard("embedding", "resnet50", "embedding", "IMAGENET1K_V2", "BSD-3-Clause", 0),
        ],
        facts=[
            Fact("images", f"{images:,}"),
            Fact("errors", "3"),
            Fact("started", "2026-11-28 14:03 UTC"),
            Fact("took", "22.4 s, 8.9 images/s"),
            Fact("machines", "1, with 2 CPUs"),
            Fact("cost", "0.02 USD"),
            Fact("cvbatch", "0.1.0"),
        ],
        certificate="bf16 against fp32 on 64 images: the first label is the same, scores differ by 0.004 at most.",
        is_complete=True,
        completeness=f"verify: all {images:,} images have exactly one row.",
    )


def _errors() -> list[ErrorKind]:
    examples = [
        FailedImage(f"photos/2022/{HOSTILE_NAME}", HOSTILE_TEXT),
        FailedImage("photos/2023/café/copied halfway.jpg", "jpeg stops early: its end marker is missing"),
    ]
    return [
        ErrorKind("TruncatedImage", 2, "Copy the files again from where they came.", examples),
        ErrorKind("EmptyFile", 1, "The disk was full when the file was written; look for another copy.", examples[1:]),
    ]


def label_names(number: int) -> list[str]:
    return [*LABELS, *(f"label {place:04d}" for place in range(len(LABELS), number))][:number]


def _section(name: str, number: int, generator: np.random.Generator) -> LabelSection:
    labels = label_names(number)
    images = np.sort(generator.geometric(0.02, number))[::-1]
    counts = [
        LabelCount(label, int(count), int(count) * (2 if name == "detection" else 1), round(float(score), 4))
        for label, count, score in zip(labels, images, generator.uniform(0.3, 0.99, number), strict=True)
    ]
    bins = np.round(400 * (np.linspace(0.1, 1, 20) ** 2)).astype(int)
    by_label = {label: generator.integers(0, 40, 20).tolist() for label in labels[:14]}
    months = [f"2024-{month:02d}" for month in range(1, 13)]
    shares = [
        LabelShares("folder", FOLDERS, [40, 30, 20, 5], labels[:10], generator.dirichlet(np.ones(10), 4).tolist()),
        LabelShares(
            "month of capture", months, list(range(5, 17)), labels[:10], generator.dirichlet(np.ones(10), 12).tolist()
        ),
    ]
    return LabelSection(name, name, counts, 17, shares, ScoreHistogram(bins.tolist(), by_label))


def _image(folder: Path, row: int, generator: np.random.Generator) -> GalleryImage:
    width, height = SHAPES[row % len(SHAPES)]
    name = HOSTILE_NAME if row == 0 else f"IMG_{row:05d} a day by the sea.jpg"
    where = FOLDERS[row % len(FOLDERS)]
    thumbnail = f"thumbnails/{row}.webp"
    _draw(folder / thumbnail, width, height, row)
    labels = generator.integers(0, len(LABELS), 8)
    scores = np.sort(generator.uniform(0.05, 0.99, 8))[::-1]
    elements = [ImageElement("classification", LABELS[labels[0]], float(scores[0]))]
    elements += [
        ImageElement("detection", LABELS[label], round(float(score), 4), box=_box(generator))
        for label, score in zip(labels[1:5], scores[1:5], strict=True)
    ]
    elements.append(ImageElement("segmentation", LABELS[labels[6]], None, outline=[_circle(generator)]))
    link = "javascript:alert(3)" if row == 0 else f"https://example.org/{row}.jpg"
    return GalleryImage(
        row,
        f"s3://archive/photos/{where}/{name}",
        name,
        where,
        link,
        "ok",
        None,
        REASONS[row % 4],
        10 * width,
        10 * height,
        thumbnail,
        elements,
    )


def _failed(row: int) -> GalleryImage:
    uri = "s3://archive/photos/2023/café/disk was full.jpg"
    return GalleryImage(
        row,
        uri,
        "disk was full.jpg",
        FOLDERS[1],
        None,
        "error",
        f"EmptyFile: {HOSTILE_TEXT}",
        "error",
        None,
        None,
        None,
        [],
    )


def _box(generator: np.random.Generator) -> tuple[float, float, float, float]:
    left, top = generator.uniform(0.02, 0.6, 2)
    width, height = generator.uniform(0.12, 0.38, 2)
    return float(left), float(top), float(left + width), float(top + height)


def _circle(generator: np.random.Generator) -> list[float]:
    (across, down), radius = generator.uniform(0.3, 0.7, 2), generator.uniform(0.1, 0.25)
    turns = [2 * math.pi * step / 24 for step in range(24)]
    return [
        float(part) for turn in turns for part in (across + radius * math.cos(turn), down + radius * math.sin(turn))
    ]


def _draw(path: Path, width: int, height: int, row: int) -> None:
    """A landscape: a sky, hills and a sun."""
    path.parent.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(row)
    top, bottom = generator.integers(60, 230, 3), generator.integers(120, 250, 3)
    ramp = np.linspace(0, 1, height)[:, None, None]
    sky = np.broadcast_to(top * (1 - ramp) + bottom * ramp, (height, width, 3)).astype(np.uint8)
    image = Image.fromarray(np.ascontiguousarray(sky))
    pen = ImageDraw.Draw(image)
    across, down = int(generator.integers(40, width - 40)), int(generator.integers(20, height // 2))
    pen.ellipse((across - 18, down - 18, across + 18, down + 18), fill=(255, 240, 200))
    for hill in range(3):
        level = height * (0.5 + 0.17 * hill)
        phase, waves = generator.uniform(0, 6, 2)
        ridge = [
            (x, level + 0.09 * height * math.sin(phase + (1 + waves / 3) * 6 * x / width))
            for x in range(0, width + 8, 8)
        ]
        pen.polygon(
            [*ridge, (width, height), (0, height)], fill=tuple(int(part) for part in generator.integers(20, 120, 3))
        )
    image.save(path, quality=70)


def _map(images: int, points: int, generator: np.random.Generator) -> EmbeddingMap:
    centres = generator.uniform(0.15, 0.85, (len(LABELS), 2))
    labels = generator.integers(-1, len(LABELS), points)
    places = np.clip(centres[labels] + generator.normal(0, 0.05, (points, 2)), 0, 1)
    rows = [row if row < images else 1000 + row for row in range(points)]
    pairs = [(float(x), float(y)) for x, y in places]
    return EmbeddingMap("embedding", f"UMAP of {points:,} images", rows, pairs, LABELS, labels.tolist())


def _mistake(row: int, generator: np.random.Generator, truth: str | None, answer: str | None) -> Mistake:
    both = truth is not None and answer is not None
    return Mistake(
        row,
        None if truth is None else ImageElement("truth", truth, None, _box(generator)),
        None if answer is None else ImageElement("answer", answer, 0.71, _box(generator)),
        0.34 if both else None,
    )


def _kinds(generator: np.random.Generator) -> MistakeKinds:
    pairs = [("moped", None), ("moped", "espresso"), ("</script>", "__proto__"), (None, HOSTILE_TEXT)]
    groups = [
        MistakeGroup(name, f"what is {name}", [_mistake(row, generator, *pair) for row, pair in enumerate(pairs)])
        for name in ("missed", "badly placed", HOSTILE_TEXT)
    ]
    table = DataTable(
        "Kinds of mistake", ["kind", "of all answers", "what it is"], [["missed", 12, "an object without an answer"]]
    )
    return MistakeKinds(table, f"All answers count. {HOSTILE_TEXT}", groups)


def _answers(images: int, generator: np.random.Generator) -> list[AnswerSection]:
    counts = generator.poisson(1.2, (12, 12)) + np.diag(generator.integers(20, 60, 12))
    matrix = Matrix(
        "Confusion",
        "truth",
        "predicted",
        LABELS[:12],
        LABELS[:12],
        counts.tolist(),
        {"0,1": [1, 2, 3], "2,2": [4, 5], "3,0": [0, 9999]},
        {"9,9": [_mistake(4, generator, "__proto__", "__proto__")], "1,0": [_mistake(9999, generator, "moped", None)]},
    )
    recall = np.linspace(0, 1, 60)
    lines = {
        label: [(float(x), float((1 - x**power) * 0.95)) for x in recall] for power, label in enumerate(LABELS[:9], 2)
    }
    loss = {
        "run A": [(float(x), math.exp(-x / 300)) for x in range(0, 1200, 20)],
        "run B": [(0.0, 0.9), (600.0, math.nan), (1200.0, 0.2)],
    }
    table = DataTable(
        "By class",
        ["class", "AP", "boxes", "note"],
        [[label, round(0.9 - place / 30, 3), place * 37, None] for place, label in enumerate(LABELS)],
    )
    return [
        AnswerSection(
            "evaluation",
            "Evaluation",
            "Against 512 images with truth, the mean average precision is 0.612.",
            facts=[Fact("mAP", "0.612"), Fact("AP at 0.5", "0.801"), Fact("images with truth", "512")],
            tables=[table],
            matrices=[matrix],
            plots=[
                Plot("Precision and recall", "recall", "precision", lines),
                Plot("Fall of the error", "images", "error", loss),
            ],
            groups=[ImageGroup("Boxes in the wrong place", [2, 3, 5, 7]), ImageGroup(HOSTILE_TEXT, [0, 1])],
            kinds=_kinds(generator),
            notes=[HOSTILE_TEXT],
        ),
        AnswerSection(
            "duplicates",
            "Duplicates",
            "12 images are there twice; 30 more are nearly alike.",
            groups=[ImageGroup(f"Group {number}", [number, (number + 6) % images]) for number in range(11)],
        ),
    ]
