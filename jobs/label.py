"""Label the images of a job file, as in a batch system: `python jobs/label.py JOB.yaml [options of cvbatch run]`.

Exit codes are those of `cvbatch run`: 0 every image has a row, 1 the run did not finish, 2 the request was wrong; 3
with `--strict` if some rows are errors. With `--retries 3` the run is restarted after 1 or a signal, and resumes.
"""

from __future__ import annotations

import sys

from cvbatch.cli import main

if __name__ == "__main__":
    sys.exit(main(["run", *sys.argv[1:]]))
