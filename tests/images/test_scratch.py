"""Memory that is used again, and never while somebody looks at it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from cvbatch.images.decode import decode
from cvbatch.images.scratch import get_scratch_buffer
from tests.images.jpegs import KINDS, PHOTO, jpeg


def address(memory: object) -> int:
    return int(np.asarray(memory).__array_interface__["data"][0])


def test_memory_is_used_again_once_nobody_refers_to_it() -> None:
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(get_scratch_buffer, 1000).result()
        where = address(first)
        part = first[10:20]
        del first
        assert address(pool.submit(get_scratch_buffer, 1000).result()) != where, "a part of it is still looked at"
        del part
    with ThreadPoolExecutor(1) as pool:
        where = pool.submit(lambda: address(get_scratch_buffer(1000))).result()
        assert pool.submit(lambda: address(get_scratch_buffer(500))).result() == where


def test_two_images_that_are_held_do_not_share_it() -> None:
    other = jpeg(PHOTO.transpose(0))
    first, second = decode(KINDS["4:2:0"], max_pixels=10**6), decode(other, max_pixels=10**6)
    again = decode(KINDS["4:2:0"], max_pixels=10**6)
    np.testing.assert_array_equal(np.asarray(first.image), np.asarray(again.image))
    assert not np.array_equal(np.asarray(first.image), np.asarray(second.image))
