"""Feature vectors to a column."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest

from cvbatch.images.preprocess import View
from cvbatch.models.spec import ModelSpec
from cvbatch.tasks.embedding import EMBEDDING

VECTORS = np.array([[3, 4], [0, 0]], np.float32)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize(("normalize", "expected"), [(False, [[3, 4], [0, 0]]), (True, [[0.6, 0.8], [0, 0]])])
def test_types_and_length(dtype: Literal["float32", "float16"], normalize: bool, expected: list[list[float]]) -> None:
    spec = ModelSpec(alias="a", task="embedding", kind="python", name="", view=View(), normalize=normalize, dtype=dtype)
    array = EMBEDDING.to_columns(spec, list(VECTORS))["vector"]
    assert array.type == EMBEDDING.column_types(spec)["vector"]
    np.testing.assert_allclose(np.array(array.to_pylist(), float), expected, atol=1e-3)
