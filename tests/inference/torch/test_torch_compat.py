"""What rests on private and text-matched behaviour of torch, held against the torch that is installed."""

from __future__ import annotations

import ctypes
import io
import json
import mmap
import pickle
import re
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import pytest
import torch

from cvbatch.inference.torch import torch_compat
from cvbatch.inference.torch.aot_runner import _capsule_address, _make_capsule

INSTALLED = Path(torch.__file__).parent
INTERFACE = INSTALLED / "include" / "torch" / "csrc" / "inductor" / "aoti_runtime" / "interface.h"
DECLARED = re.compile(r"AOTI_API AOTIRuntimeError (\w+)\(([^)]*)\)")


def in_library(name: str, text: str) -> bool:
    with (INSTALLED / "lib" / name).open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(text.encode()) >= 0


def python(code: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    return done.stdout.split()


def test_torch_reads_the_variable_for_huge_pages() -> None:
    assert in_library("libc10.so", torch_compat.HUGE_PAGES + "\0")


def test_torchvision_imports_the_compiler() -> None:
    """Or its stand-in, and `fast_import`, can go."""
    code = f"import sys, torchvision; print('{torch_compat.COMPILER_PACKAGE}.utils' in sys.modules)"
    assert python(code) == ["True"]


def test_the_compiler_knows_its_options() -> None:
    names = json.dumps(list(torch_compat.COMPILER_OPTIONS))
    code = (
        "from torch._inductor import aoti_compile_and_package, config\n"
        f"print(*(name in config.get_config_copy() for name in {names}))\n"
    )
    assert python(code) == ["True"] * len(torch_compat.COMPILER_OPTIONS)


def kinds(arguments: str) -> list[object]:
    """The types of ctypes for the arguments of a declaration in C."""
    plain = re.sub(r"//[^\n]*", "", arguments)
    texts = [" ".join(argument.split()) for argument in plain.split(",")]
    return [
        ctypes.c_char_p
        if text.startswith("const char* ")
        else ctypes.c_size_t
        if text.startswith("size_t ")
        else ctypes.c_void_p
        for text in texts
    ]


def test_a_compiled_library_has_the_interface_that_is_called() -> None:
    declared = {name: kinds(arguments) for name, arguments in DECLARED.findall(INTERFACE.read_text())}
    assert {name: list(given) for name, given in torch_compat.LIBRARY_FUNCTIONS.items()} == {
        name: declared.get(name) for name in torch_compat.LIBRARY_FUNCTIONS
    }


@pytest.mark.slow
def test_a_network_is_compiled_into_a_package_with_one_library(tmp_path: Path) -> None:
    exported = torch.export.export(torch.nn.Linear(3, 2).eval(), (torch.zeros(4, 3),))
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the compiler's own, about itself
        torch_compat.compile_package(exported, tmp_path / "linear.pt2")
    with zipfile.ZipFile(tmp_path / "linear.pt2") as archive:
        (tmp_path / "linear.so").write_bytes(archive.read(torch_compat.library_member(archive.namelist())))
    library = ctypes.CDLL(str(tmp_path / "linear.so"))
    for name in torch_compat.LIBRARY_FUNCTIONS:
        assert torch_compat.library_function(library, name).restype is ctypes.c_int


def test_tensors_go_through_handles_and_come_back() -> None:
    one, other = torch.arange(6.0).reshape(2, 3), torch.ones(1)
    handles = torch_compat.tensors_to_handles([one, other])
    back = torch_compat.handles_to_tensors([_make_capsule(_capsule_address(handle)) for handle in handles])
    assert [tensor.data_ptr() for tensor in back] == [one.data_ptr(), other.data_ptr()]
    assert torch.equal(back[0], one)


@pytest.mark.skipif(torch.version.cuda is None, reason="torch is built without CUDA")
def test_the_libraries_for_cuda_speak_of_errors_in_the_expected_words() -> None:
    assert in_library("libtorch_cuda.so", torch_compat._STICKY)
    assert f'"{torch_compat._STICKY}: "' in (INSTALLED / "include" / "ATen" / "cuda" / "Exceptions.h").read_text()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_an_error_that_stays_with_a_process_is_recognised() -> None:
    code = (
        "import torch\n"
        "from cvbatch.inference.torch.torch_compat import is_sticky\n"
        "for _ in range(2):\n"
        "    try:\n"
        "        torch.zeros(2, device='cuda')[torch.tensor([5], device='cuda')].cpu()\n"
        "    except RuntimeError as error:\n"
        "        print(is_sticky(error))\n"
    )
    assert python(code) == ["True", "True"]


class Program:
    """Something that is no tensor."""


def saved(content: object, *, as_archive: bool = True) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=as_archive)
    return file.getvalue()


def archive(content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as opened:
        opened.writestr("archive/data.pkl", content)
        opened.writestr("archive/version", "3")
    return file.getvalue()


OLD = saved({"weight": torch.zeros(3)}, as_archive=False)
DAMAGED = "it is another kind of file, or damaged"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", DAMAGED),
        (b"plain text", DAMAGED),
        (archive(b""), DAMAGED),
        (archive(b"garbage"), DAMAGED),
        (OLD[:20], DAMAGED),
        (OLD[:30] + b"\xff\xff" + OLD[32:], DAMAGED),
        (pickle.dumps(123, 2) + OLD[15:], DAMAGED),
        (OLD[:-5], "unexpected EOF, expected 5 more bytes. The file might be corrupted."),
        (saved(Program()), "it holds programs, which are never run"),
    ],
    ids=["nothing", "text", "empty", "garbage", "cut", "bytes", "magic", "short", "a program"],
)
def test_why_a_file_cannot_be_read_is_found_in_what_torch_says(content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    with pytest.raises((RuntimeError, EOFError, ValueError, pickle.UnpicklingError)) as caught:
        torch.load(path, weights_only=True)
    assert torch_compat.unpickling_reason(caught.value) == said
