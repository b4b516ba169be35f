"""The GPUs of this machine, and how busy they are."""

from __future__ import annotations

import shutil
import statistics
import subprocess
import threading
import time
from types import TracebackType

PRESENT = shutil.which("nvidia-smi")
_EVERY_MILLISECONDS = 200


def names() -> str | None:
    """Name, driver version and memory of the GPUs, as their driver reports them."""
    if PRESENT is None:
        return None
    command = [PRESENT, "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip().replace("\n", "; ")


class Utilization:
    """Measures how busy the GPUs are in a `with` block; without a GPU it measures nothing.

    The figure is the driver's: the share of time in which any kernel ran.
    """

    def __enter__(self) -> Utilization:
        self._samples: list[tuple[float, float]] = []
        if PRESENT is not None:
            command = [PRESENT, "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
            self._watch = subprocess.Popen(
                [*command, f"--loop-ms={_EVERY_MILLISECONDS}"], stdout=subprocess.PIPE, text=True
            )
            self._reader = threading.Thread(target=self._read)
            self._reader.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if PRESENT is not None:
            self._watch.terminate()
            self._reader.join()
            self._watch.wait()

    def mean(self, since: float, until: float) -> float | None:
        """Mean between two times, from 0 to 1; None without a measurement."""
        shares = [share for moment, share in self._samples if since <= moment <= until]
        return statistics.mean(shares) if shares else None

    def _read(self) -> None:
        assert self._watch.stdout is not None, "stdout is a pipe"
        for line in self._watch.stdout:
            self._samples.append((time.time(), float(line) / 100))
