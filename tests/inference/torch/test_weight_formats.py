"""Files that are no weights are called by what they are."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from cvbatch.errors import ModelError
from cvbatch.inference.torch import checkpoint

_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


def tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("weights.pth"))
    return buffer.getvalue()


def archive(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as written:
        for name in names:
            written.writestr(name, "x")
    return buffer.getvalue()


def arrays() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, weight=np.zeros(3))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (_POINTER, "is a pointer of Git LFS, .*`git lfs pull`"),
        (b"\n <!DOCTYPE html><html>Not found</html>", "is a web page"),
        (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "is a web page"),
        (b'{"weight_map": {}}', "is JSON"),
        (b"epoch 3: loss 0.1\n", "is text"),
        (gzip.compress(b"weights", mtime=0), "is packed with gzip: unpack it"),
        (tar(), "is a tar archive: unpack it"),
        (archive("readme.txt", "weights.pth"), "is a zip archive with 2 files, readme.txt first: unpack it"),
        (archive("metadata.json", "config.json", "model.weights.h5"), "is a model of Keras"),
        (arrays(), r"is an \.npz archive of NumPy"),
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "is an HDF5 file, as Keras writes"),
        (b"\x08\x08\x12\x07pytorch\x1a\x052.1.0" + bytes(100), "is a model of ONNX"),
        (b"\x1c\x00\x00\x00TFL3" + bytes(100), "is a model of TensorFlow Lite"),
        (b"GGUF" + bytes(100), "is a GGUF file"),
        (b"PK\x03\x04" + bytes(100), "is damaged, or cut off"),
        (pickle.dumps({"weight": [1, 2]}), "is a pickle, but not of torch.save"),
        (pickle.dumps({"weight": [1, 2]}, protocol=2), "is a pickle, but not of torch.save"),
        ((8).to_bytes(8, "little") + b"{broken}" + bytes(8), "damaged, or no safetensors file"),
    ],
)
def test_files_that_are_no_weights(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(ModelError, match=message) as caught:
        checkpoint.read_state_dict(str(tmp_path / "w.pth"))
    assert "w.pth" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not {"weights_only", "safe_globals"} & set(str(caught.value).split())


def test_a_program_of_torchscript(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    with zipfile.ZipFile(path, "w") as written:  # as torch.jit.save lays it out, which newer versions of torch lack
        for name in ("w/data.pkl", "w/constants.pkl", "w/code/__torch__.py", "w/version"):
            written.writestr(name, "x")
    with pytest.raises(ModelError, match="is a TorchScript archive, which is a program"):
        checkpoint.read_state_dict(str(path))


def test_a_checkpoint_that_was_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    torch.save({"weight": torch.zeros(1000)}, path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ModelError, match="is damaged, or cut off: its end is missing"):
        checkpoint.read_state_dict(str(path))


def test_safetensors_by_any_name(tmp_path: Path) -> None:
    header = json.dumps({"weight": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    content = len(header).to_bytes(8, "little") + header + np.array([1, 2], np.float32).tobytes()
    (tmp_path / "w.bin").write_bytes(content)
    pytest.importorskip("safetensors.torch")
    assert checkpoint.read_state_dict(str(tmp_path / "w.bin"))["weight"].tolist() == [1, 2]
