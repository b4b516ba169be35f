"""`python -m cvbatch`, and the command `cvbatch`."""

from __future__ import annotations

import os
import sys

_HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
if __name__ == "__main__" and sys.path[0] in ("", os.getcwd()) and os.getcwd() != _HERE and not sys.flags.safe_path:
    del sys.path[0]  # added by `-m`; a `types.py` beside a job would hide Python's

from cvbatch.system.standard_streams import flush_streams, guard_streams  # noqa: E402 - after the path is clean


def run() -> None:
    """Run one command and end.

    The process ends without Python's cleanup: threads of Arrow and Ray may still be working, and would lose the
    objects that they use ("terminate called without an active exception", exit code 134 instead of ours).
    """
    guard_streams()  # before anything opens a file
    from cvbatch.cli import main

    try:
        code = main()
    except SystemExit as error:  # from argparse
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    flush_streams()
    os._exit(code)


if __name__ == "__main__":
    run()
