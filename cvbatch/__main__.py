"""`python -m cvbatch`, and the command `cvbatch`."""

from __future__ import annotations

import contextlib
import os
import sys

from cvbatch.cli import main


def run() -> None:
    """Run one command and end.

    Python does not tidy up after it: threads of Arrow and of Ray may still be at work, and would find what they use
    taken away ("terminate called without an active exception", exit code 134 instead of ours).
    """
    code = main()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(BrokenPipeError):
            stream.flush()
    os._exit(code)


if __name__ == "__main__":
    run()
