"""The C library takes the options."""

from __future__ import annotations

import platform

from cvbatch.inference.torch.malloc import keep_freed_memory


def test_options_are_taken_where_there_is_glibc() -> None:
    assert keep_freed_memory() == (platform.libc_ver()[0] == "glibc")
    assert keep_freed_memory() == keep_freed_memory()
