"""The functions of all commands, by name."""

from cvbatch.cli.cluster_commands import logs_command, stop_command, submit_command
from cvbatch.cli.inspect_commands import models_command, status_command, verify_command
from cvbatch.cli.run_commands import demo_command, plan_command, retry_command, run_command

__all__ = [
    "demo_command",
    "logs_command",
    "models_command",
    "plan_command",
    "retry_command",
    "run_command",
    "status_command",
    "stop_command",
    "submit_command",
    "verify_command",
]
