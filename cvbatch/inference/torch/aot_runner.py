"""Running a compiled network without Python's lock, so that several threads can do so at once.

torch 2.14 keeps the lock while a network computes that was compiled ahead of time: on two cores two threads took turns,
and ResNet-50 at fp32 did 8.0 images/s instead of 15.6. What it compiles is a library with a C interface (see
`torch_compat`), and ctypes lets go of the lock while it calls one.
"""

from __future__ import annotations

import ctypes
import os
import weakref
import zipfile
from pathlib import Path
from typing import Any

from torch import Tensor

from cvbatch.inference.torch.torch_compat import (
    handles_to_tensors,
    library_function,
    library_member,
    tensors_to_handles,
)
from cvbatch.system.cache_files import atomic_write_path


class UnlockedPackage:
    """A network for CPUs that was compiled ahead of time.

    Args:
        package: Of `aoti_compile_and_package`; its library is kept beside it.
        runners: How many threads may run it at once.

    Raises:
        RuntimeError: It cannot be loaded.
    """

    def __init__(self, package: Path, runners: int) -> None:
        library = ctypes.CDLL(os.fspath(_load_library(package)))
        create = library_function(library, "AOTInductorModelContainerCreateWithDevice")
        count = library_function(library, "AOTInductorModelContainerGetNumOutputs")
        self._run = library_function(library, "AOTInductorModelContainerRun")
        self._container = ctypes.c_void_p()
        _check_return_code(create(ctypes.byref(self._container), runners, b"cpu", None))
        delete = library_function(library, "AOTInductorModelContainerDelete")
        weakref.finalize(self, delete, self._container).atexit = False  # at the end of the process it goes anyway
        outputs = ctypes.c_size_t()
        _check_return_code(count(self._container, ctypes.byref(outputs)))
        self._outputs = outputs.value

    def __call__(self, batch: Tensor) -> Any:
        """Run a batch; what comes is a tensor if it is one, or a tuple of them.

        Raises:
            RuntimeError: It failed; why stands on stderr.
        """
        handles = tensors_to_handles([batch])
        given = (ctypes.c_void_p * 1)(*map(_capsule_address, handles))  # taken over by what is called
        found = (ctypes.c_void_p * self._outputs)()
        _check_return_code(self._run(self._container, given, 1, found, self._outputs, None, None))
        tensors = handles_to_tensors([_make_capsule(each) for each in found])
        return tuple(tensors) if self._outputs > 1 else tensors[0]


def _load_library(package: Path) -> Path:
    """The library of a package, taken out once."""
    library = package.with_suffix(".so")
    if not library.exists():
        with atomic_write_path(library) as part, zipfile.ZipFile(package) as archive:
            part.write_bytes(archive.read(library_member(archive.namelist())))
    return library


def _check_return_code(code: int) -> None:
    if code:
        raise RuntimeError(f"the compiled network failed with code {code}")


def _capsule_address(capsule: Any) -> int | None:
    address: int | None = _pointer(capsule, None)
    return address


def _make_capsule(address: int | None) -> Any:
    return _new(address, None, None)


_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)
_new = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)(
    ("PyCapsule_New", ctypes.pythonapi)
)
