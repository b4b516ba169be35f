"""What each command does with its options."""

from cvbatch.cli.cluster_commands import logs, stop, submit
from cvbatch.cli.inspect_commands import models, status, verify
from cvbatch.cli.run_commands import demo, plan, retry, run

__all__ = ["demo", "logs", "models", "plan", "retry", "run", "status", "stop", "submit", "verify"]
