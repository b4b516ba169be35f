"""Optional packages: what a command needs besides the usual installation."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from cvbatch.errors import UsageError


def import_extra(module: str, extra: str, purpose: str) -> ModuleType:
    """Import a module of an optional package.

    Args:
        module: Name of the module.
        extra: Name of our extra that installs it.
        purpose: What needs it, such as `cvbatch sql`.

    Raises:
        UsageError: If it is not installed.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != module.split(".")[0]:
            raise  # the package is there, and something that it needs is not
        raise UsageError(f"{purpose} needs {module}: pip install 'cvbatch[{extra}]'") from None
