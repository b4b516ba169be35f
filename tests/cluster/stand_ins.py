"""Programs that stand in for Ray and cvbatch under Slurm, and say what they were told."""

from __future__ import annotations

RAY_COMMAND = """#!{python}
import os, pathlib, socket, signal, sys
node = os.environ["SLURMD_NODENAME"]
if node == os.environ.get("BROKEN"):
    sys.exit("ray: this node is broken")
while node == os.environ.get("SILENT"):
    signal.pause()
nodes = pathlib.Path(os.environ["STAND_IN"], os.environ["SLURM_JOB_ID"])
nodes.mkdir(exist_ok=True)
(nodes / node).write_text("\\n".join(sys.argv[1:]))
if "--head" in sys.argv:
    host, _, port = os.environ["RAY_ADDRESS"].rpartition(":")
    listener = socket.create_server((host, int(port)))
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
while True:
    signal.pause()
"""

RAY_MODULE = """
import os
def is_initialized(): return False
def init(**options): pass
def nodes(): return [{"Alive": True} for _ in os.listdir(os.environ["STAND_IN"] + "/" + os.environ["SLURM_JOB_ID"])]
"""

CVBATCH_COMMAND = """#!{python}
import json, os, pathlib, signal, sys, time
restart = os.environ.get("SLURM_RESTART_COUNT", "0")
told = pathlib.Path(os.environ["STAND_IN"], "told-" + os.environ["SLURM_JOB_ID"] + "-" + restart)
job = json.loads(pathlib.Path(sys.argv[2]).read_text())
token = pathlib.Path(os.environ["RAY_AUTH_TOKEN_PATH"])
def stop(*_):
    with told.with_suffix(".stopped").open("a") as signals:
        print("TERM", file=signals)
    if not ended:
        ended.append(time.monotonic() + 0.7)
ended = []
signal.signal(signal.SIGTERM, stop)
about = {{
    "arguments": sys.argv[1:],
    "address": os.environ["RAY_ADDRESS"],
    "token": str(token),
    "token_length": len(token.read_text()),
    "modes": [oct(path.stat().st_mode & 0o7777) for path in (token, token.parent)],
    "umask": oct(os.umask(0)),
}}
told.with_suffix(".new").write_text(json.dumps(about))
told.with_suffix(".new").rename(told)
codes = job["codes"]
code = codes[min(int(restart), len(codes) - 1)]
while code is None:
    time.sleep(0.1)
    if ended and time.monotonic() > ended[0]:
        code = job["stopped"]
sys.exit(code)
"""
