"""Import torchvision without torch's compiler.

torchvision 0.26 to 0.29 import the compiler for one function, which `roi_align` calls if deterministic algorithms are
on. This takes 2.2 of the 2.4 s of the import, in each process that predicts.
"""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Callable
from typing import Any, Final

from cvbatch.inference.torch.torch_compat import COMPILER_PACKAGE

_TORCHVISION: Final = "torchvision"
_UTILS: Final = f"{COMPILER_PACKAGE}.utils"


def import_torchvision() -> None:
    """Import torchvision; its functions of the compiler are imported when they are called."""
    if _TORCHVISION in sys.modules or COMPILER_PACKAGE in sys.modules:
        return
    package, utils = types.ModuleType(COMPILER_PACKAGE), types.ModuleType(_UTILS)
    vars(utils)["__getattr__"] = _lazy_function
    vars(package)["utils"] = utils
    sys.modules |= {COMPILER_PACKAGE: package, _UTILS: utils}
    try:
        importlib.import_module(_TORCHVISION)
    except (ImportError, AttributeError):  # another version may use more of the compiler
        for name in [name for name in sys.modules if name.partition(".")[0] == _TORCHVISION]:
            del sys.modules[name]
    finally:
        del sys.modules[COMPILER_PACKAGE], sys.modules[_UTILS]
    importlib.import_module(_TORCHVISION)


def _lazy_function(name: str) -> Callable[..., Any]:
    if name.startswith("__"):
        raise AttributeError(name)

    def call_imported(*arguments: Any, **keywords: Any) -> Any:
        return getattr(importlib.import_module(_UTILS), name)(*arguments, **keywords)

    return call_imported
