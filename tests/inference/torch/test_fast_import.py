"""torchvision without torch's compiler, in a process of its own."""

from __future__ import annotations

import subprocess
import sys

_CHECK = """
import sys
from cvbatch.inference.torch.fast_import import import_torchvision
import_torchvision()
import torch
import torchvision
from torchvision.ops import roi_align
def found():
    return [name for name in ("torch._dynamo", "torch._dynamo.utils", "sympy") if name in sys.modules]
assert found() == [], found()
boxes = torch.tensor([[0.0, 0.0, 4.0, 4.0]])
before = roi_align(torch.ones(1, 1, 8, 8), [boxes], 2)
assert found() == [], found()
from torchvision.ops import roi_align as module
assert sys.modules["torchvision.ops.roi_align"].is_compile_supported("cpu") in (True, False)
assert "torch._dynamo" in sys.modules
import torch._dynamo
assert torch._dynamo.utils.is_compile_supported("cpu") in (True, False)
import_torchvision()
"""


def test_the_compiler_comes_when_it_is_called() -> None:
    subprocess.run([sys.executable, "-c", _CHECK], check=True, timeout=120)
