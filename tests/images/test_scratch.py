"""Memory is reused, but never while it is referred to."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from cvbatch.images.decode import decode
from cvbatch.images.scratch import get_scratch_buffer
from tests.images.jpegs import KINDS, PHOTO, jpeg


def address(memory: object) -> int:
    return int(np.asarray(memory).__array_interface__["data"][0])


def test_unreferenced_memory_is_reused() -> None:
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(get_scratch_buffer, 1000).result()
        first_address = address(first)
        part = first[10:20]
        del first
        assert address(pool.submit(get_scratch_buffer, 1000).result()) != first_address, (
            "a part of it is still referenced"
        )
        del part
    with ThreadPoolExecutor(1) as pool:
        first_address = pool.submit(lambda: address(get_scratch_buffer(1000))).result()
        assert pool.submit(lambda: address(get_scratch_buffer(500))).result() == first_address


def test_two_images_do_not_share_memory() -> None:
    mirrored = jpeg(PHOTO.transpose(0))
    first, second = decode(KINDS["4:2:0"], max_pixels=10**6), decode(mirrored, max_pixels=10**6)
    again = decode(KINDS["4:2:0"], max_pixels=10**6)
    np.testing.assert_array_equal(np.asarray(first.image), np.asarray(again.image))
    assert not np.array_equal(np.asarray(first.image), np.asarray(second.image))
