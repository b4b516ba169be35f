"""Write coloured shapes on crops of photos, with exact truth: `python jobs/shapes.py FOLDER` and FOLDER-unseen."""

from __future__ import annotations

import sys

from cvbatch.testing import generate_shapes

if __name__ == "__main__":
    folder = sys.argv[1]
    for name, count, seed in ((folder, 400, 0), (f"{folder}-unseen", 100, 1)):
        print(f"{count} images in {generate_shapes(name, count, seed=seed).images}")
