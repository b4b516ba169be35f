"""What each command does with its options."""

from cvbatch.commands.clusters import logs, stop, submit
from cvbatch.commands.looking import models, status, verify
from cvbatch.commands.runs import demo, plan, retry, run

__all__ = ["demo", "logs", "models", "plan", "retry", "run", "status", "stop", "submit", "verify"]
