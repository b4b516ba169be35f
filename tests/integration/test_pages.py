"""Every command of the pages beside the code is run, and every result in them is the real one."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image, ImageOps
from safetensors.torch import save_file
from torch import nn

from cvbatch.testing import seeded_checkpoint
from tests.conftest import make_photo
from tests.pages import READMES, ROOT, blocks, page_commands, page_name
from tests.rigs.graphs import write_constant_graph
from tests.rigs.mask_models import save_mask2former
from tests.rigs.objects import REGION, ObjectServer
from tests.rigs.programs import save_program
from tests.rigs.prompted_models import save_clip, save_grounding_dino, save_owl
from tests.rigs.timm_models import make_timm_model, save_timm_model
from tests.rigs.transformers_models import save_depth_anything, save_rt_detr, save_segformer, save_vit

MODELS_OF_PAGES: dict[str, Callable[[Path], Path]] = {
    "rtdetr": save_rt_detr,
    "segformer": save_segformer,
    "clip": save_clip,
    "owlvit": save_owl,
    "grounding-dino": save_grounding_dino,
    "depth-anything": save_depth_anything,
    "mask2former": save_mask2former,
}
FAST = {"cvbatch/results/README.md", "cvbatch/results/sql/README.md"}
"""Pages that `make test` runs, in the folder of the demo itself; the others start workers of Ray twenty times."""
PICTURE = ROOT / "jobs" / "contact_sheet.jpg"
ENDPOINT = "http://127.0.0.1:9000"
"""What pages call the object store."""
PAGES = [
    pytest.param(page, id=page_name(page), marks=() if page_name(page) in FAST else pytest.mark.slow)
    for page in READMES
    if any(command.is_run for command in page_commands(page))
]
OWN_RUNS = {"storage", "models"}
"""Folders with pages whose answers are about runs of their own commands."""
ANSWERS_OF_THE_DEMO = [page for page in READMES if blocks(page, "python") and not OWN_RUNS & {*page.parts}]


@pytest.fixture(scope="module")
def demo(ray_head: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the demo has run; what it printed is in `printed`."""
    folder = tmp_path_factory.mktemp("demo")
    done = run_command("cvbatch demo", folder, {"RAY_ADDRESS": ray_head})
    assert done.returncode == 0, done.stderr
    copy_jobs(folder)
    (folder / "printed").write_text(done.stdout, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A model with own weights, as an entry of `models:`."""
    return seeded_checkpoint("squeezenet1_1", tmp_path_factory.mktemp("weights"))


@pytest.fixture
def home(demo: Path, tmp_path: Path) -> Path:
    """A folder as a reader has it: the demo has run, and there is everything that the pages name."""
    (tmp_path / "cvbatch-demo").symlink_to(demo / "cvbatch-demo")
    copy_jobs(tmp_path)
    photos = tmp_path / "photos"
    photos.mkdir()
    for photo in sorted((demo / "cvbatch-demo" / "photos" / "2024" / "garage").iterdir())[:6]:
        shutil.copy2(photo, photos)
    (photos / "shopping list.jpg").write_text("spark plugs, chain oil, red paint")
    (tmp_path / "shards").mkdir()
    for shard in (tmp_path / "shards" / "2024.tar", tmp_path / "extra.tar"):
        with tarfile.open(shard, "w") as archive:
            archive.add(photos, shard.stem)
    (tmp_path / "tables").mkdir()
    images = [make_photo(tmp_path / "tables" / "a.jpg", seed=seed).read_bytes() for seed in range(3)]
    pd.DataFrame({"image": images}).to_parquet(tmp_path / "tables" / "photos.parquet")
    write_scans(tmp_path / "scans")
    write_map(tmp_path / "maps", demo / "cvbatch-demo" / "photos" / "2024" / "garage" / "motorbike 01.jpg")
    # of a host that is not listed, so that no connection is made
    (tmp_path / "urls.csv").write_text("uri\nhttps://other.example.org/a.jpg\n")
    return tmp_path


@pytest.fixture(scope="module")
def buckets(
    object_server: ObjectServer, checkpoint: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """The environment of a reader with a profile, an archive in a bucket, and a bucket for the results."""
    folder = tmp_path_factory.mktemp("aws")
    who = object_server.admin
    (folder / "credentials").write_text(
        f"[archive]\naws_access_key_id = {who.key}\naws_secret_access_key = {who.secret}\n"
    )
    (folder / "config").write_text(f"[profile archive]\nregion = {REGION}\nendpoint_url = {object_server.endpoint}\n")
    for name in ("archive", "results"):
        object_server.ensure_bucket(name)
    photo = make_photo(folder / "a.jpg").read_bytes()
    object_server.put("archive", {f"2019/{number}.jpg": photo for number in range(3)})
    model = {**checkpoint, "checkpoint": "s3://results/jobs/birds.pth"}
    job = {"source": {"uri": "photos"}, "models": [model], "output": {"uri": "birds"}}
    weights = Path(checkpoint["checkpoint"]).read_bytes()
    object_server.put("results", {"jobs/birds.pth": weights, "jobs/birds.yaml": yaml.safe_dump(job).encode()})
    files = {"AWS_SHARED_CREDENTIALS_FILE": "credentials", "AWS_CONFIG_FILE": "config"}
    return {name: str(folder / file) for name, file in files.items()}


@pytest.mark.parametrize("page", PAGES)
def test_every_command_works(page: Path, home: Path, ray_head: str, request: pytest.FixtureRequest) -> None:
    folder = (home / "cvbatch-demo").resolve().parent if page_name(page) in FAST else home
    environment, endpoint = {"RAY_ADDRESS": ray_head}, ENDPOINT
    if "storage" in page.parts:  # the standing head has no credentials; a Ray of its own inherits those of the command
        environment = request.getfixturevalue("buckets")
        endpoint = request.getfixturevalue("object_server").endpoint
    if "models" in page.parts:
        checkpoint = request.getfixturevalue("checkpoint")
        shutil.copy(checkpoint["checkpoint"], home / "birds.pth")
        (home / "birds.txt").write_text("\n".join(checkpoint["categories"]))
        write_graphs_of_pages(home)
        save_models_of_pages(home)
        environment |= {"HF_HOME": str(home / "hub"), "HF_HUB_OFFLINE": "1"}
    shrink_training(home / "jobs" / "train_digits.yaml")
    for command in [command for command in page_commands(page) if command.is_run]:
        if command.text.startswith("export "):
            name, _, value = command.words[1].partition("=")
            environment = {**environment, name: value}
            continue
        done = run_command(command.text.replace(ENDPOINT, endpoint), folder, environment)
        assert done.returncode == 0, f"{command.text}\n{done.stdout}{done.stderr}"
    check_answers(page, folder, environment)


def shrink_training(path: Path) -> None:
    """Let a job see fewer pixels, and learn for fewer epochs."""
    job = yaml.safe_load(path.read_text())
    stages = [{**stage, "epochs": 1} for stage in job["stages"]]
    path.write_text(yaml.safe_dump({**job, "image_size": 32, "stages": stages}))


def write_scans(folder: Path) -> None:
    """Write a TIFF of three pages, a GIF of three frames and a photo."""
    folder.mkdir()
    pages = [Image.open(make_photo(folder / "page.png", seed=seed)).copy() for seed in range(3)]
    (folder / "page.png").unlink()
    for name in ("invoice.tif", "clip.gif"):
        pages[0].save(folder / name, save_all=True, append_images=pages[1:])
    pages[0].save(folder / "photo.jpg")


def write_map(folder: Path, photo: Path) -> None:
    """Write a photo as a GeoTIFF, 5 cm a pixel, in metres of UTM zone 33."""
    folder.mkdir()
    place = {33550: (0.05, 0.05, 0.0), 33922: (0.0, 0.0, 0.0, 392_000.0, 5_820_000.0, 0.0)}
    keys = (1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, 32_633)
    with Image.open(photo) as image:
        ImageOps.exif_transpose(image).convert("RGB").save(folder / "yard.tif", tiffinfo={**place, 34735: keys})


def write_graphs_of_pages(home: Path) -> None:
    """Write the ONNX files that the page about models names, whose answers are constant, and a program of torch."""
    table = np.zeros((1, 6, 100), np.float32)
    table[0, :, 0] = [30, 30, 20, 20, 0.9, 0.1]
    said = {"stride": "32", "task": "detect", "imgsz": "[64, 64]", "names": "{0: 'person', 1: 'bicycle'}"}
    write_constant_graph(home / "yolo11n.onnx", {"output0": table}, metadata=said)
    write_constant_graph(home / "flowers.onnx", {"probabilities": np.ones((1, 3), np.float32)}, last="Softmax")
    (home / "flowers.yaml").write_text(blocks(ROOT / "cvbatch" / "models" / "README.md", "yaml")[0])
    flowers = nn.Sequential(nn.Conv2d(3, 3, 8, 8), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    save_program(flowers, home / "flowers.pt2", (2, 3, 64, 64))
    animals = {"stride": "32", "task": "detect", "imgsz": "[64, 64]", "names": "{0: 'animal', 1: 'person'}"}
    write_constant_graph(home / "mdv6.onnx", {"output0": table}, metadata=animals)
    write_constant_graph(home / "jobs" / "md_v5a.onnx", {"output0": np.zeros((1, 50, 8), np.float32)})
    pose = np.concatenate([table[:, :5], np.zeros((1, 51, 100), np.float32)], axis=1)
    people = {**animals, "task": "pose", "names": "{0: 'person'}", "kpt_shape": "[17, 3]"}
    write_constant_graph(home / "yolo11n-pose.onnx", {"output0": pose}, metadata=people)
    queries = np.zeros((1, 10, 4), np.float32), np.zeros((1, 10, 91), np.float32)
    write_constant_graph(home / "rf-detr.onnx", {"dets": queries[0] + 0.5, "labels": queries[1]}, shape=(1, 3, 64, 64))
    write_constant_graph(home / "features.onnx", {"features": np.ones((1, 8), np.float32)})
    pair = {"boxes": np.array([[[1, 2, 30, 40]]], np.float32), "scores": np.array([[[2, -2]]], np.float32)}
    write_constant_graph(home / "jobs" / "retinanet.onnx", pair)


def save_models_of_pages(home: Path) -> None:
    """Save small models of transformers and timm under the names of the page about models, some as the hub's cache."""
    repository, commit = home / "hub" / "hub" / "models--google--vit-base-patch16-224", "0" * 40
    save_vit(repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    repository = home / "hub" / "hub" / "models--timm--mobilenetv3_small_050.lamb_in1k"
    save_timm_model(repository / "snapshots" / commit, "mobilenetv3_small_050")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    save_timm_model(home / "models" / "trees", label_names=["ash", "birch", "elm"])
    names = len((home / "birds.txt").read_text().splitlines())
    save_file(make_timm_model("resnet10t", num_classes=names).state_dict(), home / "own.safetensors")
    for name, save in MODELS_OF_PAGES.items():
        save(home / "models" / name)
    (home / "things.txt").write_text("cat\nred car\n")


@pytest.mark.parametrize("page", ANSWERS_OF_THE_DEMO, ids=page_name)
def test_every_answer_is_real(page: Path, home: Path) -> None:
    check_answers(page, home, {})


def test_the_output_of_the_demo_is_real(demo: Path) -> None:
    (shown,) = blocks(ROOT / "README.md", "text")
    printed = (demo / "printed").read_text(encoding="utf-8")
    # folders and times differ from run to run and from machine to machine
    varies = re.compile(
        r"photos/|images/s|stage|workers|predictions|predicting|held back|\d%|\bof 0 bytes|early|text that"
    )
    lines = [line for line in shown.splitlines() if not varies.search(line)]
    assert len(lines) > 10
    assert [line for line in lines if line not in printed] == []


def test_the_picture_is_that_of_the_demo(demo: Path) -> None:
    with Image.open(demo / "cvbatch-demo" / "contact_sheet.png") as sheet, Image.open(PICTURE) as picture:
        small = sheet.convert("RGB").resize(picture.size, Image.Resampling.LANCZOS)
        assert abs(picture.width / picture.height - sheet.width / sheet.height) < 0.01
        assert (
            np.abs(np.asarray(small).astype(int) - np.asarray(picture)).mean() < 12
        )  # of a few photos another one may be chosen elsewhere
    assert PICTURE.stat().st_size < 200_000


def check_answers(page: Path, folder: Path, environment: dict[str, str]) -> None:
    """Run the `>>>` lines of a page, and compare what they print."""
    (folder / "answers.txt").write_text("\n".join(blocks(page, "python")), encoding="utf-8")
    done = run_command("python -m doctest -o NORMALIZE_WHITESPACE answers.txt", folder, environment)
    assert done.returncode == 0, done.stdout + done.stderr


def copy_jobs(folder: Path) -> None:
    """Put `jobs/` into a folder; a link would make its relative paths lead out of it."""
    shutil.copytree(ROOT / "jobs", folder / "jobs", ignore=shutil.ignore_patterns("benchmark"))


def run_command(command: str, folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a command of a page as a person would."""
    words = shlex.split(command, comments=True)
    programs = {"cvbatch": [sys.executable, "-m", "cvbatch"], "python": [sys.executable]}
    return subprocess.run(
        [*programs.get(words[0], words[:1]), *words[1:]],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
