"""Label the images of a job file, as a batch system does: `python jobs/label.py JOB.yaml [options of cvbatch run]`.

Exit codes are those of `cvbatch run`: 0 every image is a row, 2 the request was wrong, 1 the run did not finish; 3 some
rows are errors, under `--strict`. With `--retries 3` it is started again after 1 or a signal, and goes on.
"""

from __future__ import annotations

import sys

from cvbatch.cli import main

if __name__ == "__main__":
    sys.exit(main(["run", *sys.argv[1:]]))
