"""Write scikit-learn's handwritten digits as images, in a folder for each digit: `python jobs/digits.py FOLDER`."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

_GREATEST = 16
"""Value of a white pixel."""
_SIDE = 64


def write_digits(folder: Path) -> int:
    """Write 1,797 images of 64 × 64 pixels; returns their number."""
    digits = load_digits()
    for index, (values, digit) in enumerate(zip(digits.images, digits.target, strict=True)):
        path = folder / str(digit) / f"{index:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = (values * 255 / _GREATEST).astype(np.uint8)
        Image.fromarray(pixels).resize((_SIDE, _SIDE), Image.Resampling.BICUBIC).save(path)
    return len(digits.target)


if __name__ == "__main__":
    print(f"{write_digits(Path(sys.argv[1])):,} images in {sys.argv[1]}")
