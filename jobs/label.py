"""Label the images of a job file, as a cluster does: `python jobs/label.py JOB.yaml`.

Exit codes are those of `cvbatch run`: 0 every image is a row, 2 the request was wrong, 1 the run did not finish.
"""

from __future__ import annotations

import sys
from pathlib import Path

from cvbatch import CvbatchError, load_job, run
from cvbatch.console import Terminal


def main(path: str) -> int:
    """Run the job; a second call goes on with it."""
    folder = str(Path(path).resolve().parent)
    sys.path.insert(0, folder)
    try:
        with Terminal() as terminal:
            run(load_job(path), terminal, pythonpath=folder)
    except CvbatchError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]) if len(sys.argv) == 2 else "expected one job file: python jobs/label.py JOB.yaml")
