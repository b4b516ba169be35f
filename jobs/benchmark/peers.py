"""The peers, each as its documentation describes it: ResNet-50 with random weights over a folder of JPEGs.

Usage: `python jobs/benchmark/peers.py ray_recipe|daft|loader_fp32|loader_best IMAGES OUTPUT`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from cvbatch.system.cpu import cpu_has_bf16

_BATCH_SIZE = {"cpu": 16, "cuda": 128}


def ray_recipe(images: Path, output: Path) -> None:
    """Ray Data's image classification example: read_images, map the transforms, map_batches a model class."""
    import ray
    import torch
    from torchvision.models import ResNet50_Weights, resnet50

    weights = ResNet50_Weights.DEFAULT
    transform = weights.transforms()

    def preprocess(row: dict[str, Any]) -> dict[str, Any]:
        image = torch.from_numpy(row["image"].copy()).permute(2, 0, 1)
        return {"original": row["path"], "image": transform(image).numpy()}

    class Model:
        def __init__(self) -> None:
            self.device = _device()
            self.model = resnet50().eval().to(self.device)

        def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
            with torch.inference_mode():
                scores = self.model(torch.from_numpy(np.stack(batch["image"])).to(self.device))
            names = [weights.meta["categories"][index] for index in scores.argmax(dim=1).tolist()]
            return {"original": batch["original"], "label": names}

    ray.init(address="local", include_dashboard=False, log_to_driver=False)
    dataset = ray.data.read_images(str(images), mode="RGB", include_paths=True)
    dataset = dataset.map(preprocess)
    gpus = {"num_gpus": 1} if _device() == "cuda" else {}
    size = _BATCH_SIZE[_device()]
    dataset = dataset.map_batches(Model, batch_size=size, compute=ray.data.ActorPoolStrategy(size=1), **gpus)
    dataset.write_parquet(str(output))


def daft(images: Path, output: Path) -> None:
    """Daft's image classification benchmark: download, decode, apply the transforms, a class UDF."""
    import daft
    import torch
    from daft import DataType, col
    from daft.functions import decode_image, download
    from torchvision import transforms
    from torchvision.models import ResNet50_Weights, resnet50

    weights = ResNet50_Weights.DEFAULT
    transform = transforms.Compose([transforms.ToTensor(), weights.transforms()])

    @daft.cls(max_concurrency=1)
    class Model:
        def __init__(self) -> None:
            self.model = resnet50().eval().to(_device())

        @daft.method.batch(return_dtype=DataType.string(), batch_size=_BATCH_SIZE[_device()])
        def classify(self, column: daft.Series) -> list[str]:
            with torch.inference_mode():
                scores = self.model(torch.from_numpy(np.array(column.to_pylist())).to(_device()))
            return [weights.meta["categories"][index] for index in scores.argmax(dim=1).tolist()]

    frame = daft.from_glob_path(f"{images}/*.jpg")
    frame = frame.with_column("image", decode_image(download(col("path")), mode="RGB"))
    shape = DataType.tensor(DataType.float32(), shape=(3, 224, 224))
    frame = frame.with_column("image", col("image").apply(lambda image: transform(image).numpy(), return_dtype=shape))
    frame.with_column("label", Model().classify(col("image"))).select("path", "label").write_parquet(str(output))


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def loader_fp32(images: Path, output: Path) -> None:
    """A careful DataLoader loop at fp32."""
    _loader(images, output, best=False)


def loader_best(images: Path, output: Path) -> None:
    """The best loop that we could write by hand: bfloat16 if the CPU has it, channels last, decoding ahead."""
    _loader(images, output, best=True)


def _loader(images: Path, output: Path, *, best: bool) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq
    import torch
    from PIL import Image
    from torchvision.models import ResNet50_Weights, resnet50

    paths = sorted(images.glob("*.jpg"))
    weights = ResNet50_Weights.DEFAULT

    class Photos(torch.utils.data.Dataset[torch.Tensor]):
        transform = weights.transforms()

        def __len__(self) -> int:
            return len(paths)

        def __getitem__(self, index: int) -> torch.Tensor:
            with Image.open(paths[index]) as image:
                return self.transform(image.convert("RGB"))

    device = _device()
    model = resnet50().eval().to(device)
    if best:
        model = model.to(memory_format=torch.channels_last)
    labels: list[str] = []
    size, workers = _BATCH_SIZE[device] * (2 if best else 1), 1 if device == "cpu" else len(os.sched_getaffinity(0))
    loader = torch.utils.data.DataLoader(
        Photos(), batch_size=size, num_workers=workers, prefetch_factor=4, pin_memory=best and device == "cuda"
    )
    low = best and (device == "cuda" or cpu_has_bf16())
    with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=low):
        for batch in loader:
            pixels = batch.to(device, non_blocking=True)
            if best:
                pixels = pixels.to(memory_format=torch.channels_last)
            labels += [weights.meta["categories"][index] for index in model(pixels).argmax(dim=1).tolist()]
    output.mkdir(parents=True)
    pq.write_table(pa.table({"path": [str(path) for path in paths], "label": labels}), output / "labels.parquet")


PEERS: dict[str, Callable[[Path, Path], None]] = {
    "ray_recipe": ray_recipe,
    "daft": daft,
    "loader_fp32": loader_fp32,
    "loader_best": loader_best,
}

if __name__ == "__main__":
    PEERS[sys.argv[1]](Path(sys.argv[2]).resolve(), Path(sys.argv[3]).resolve())
