"""What the driver knows of models, as it is written down and read back."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest

from cvbatch.errors import SourceError
from cvbatch.models.spec import ModelSpec, describe_schema, rows_schema
from cvbatch.schema import IMAGE_FIELDS
from cvbatch.storage.options import StorageOptions
from tests.samples import spec


@pytest.mark.parametrize("way", [None, StorageOptions.from_mapping({"region": "eu-west-1"})])
def test_plain_data_give_the_same_model(way: StorageOptions | None) -> None:
    model = spec(top_k=3, weights_storage=way, options={"depth": 2})
    assert ModelSpec.from_json(json.loads(json.dumps(model.to_json()))) == model


def test_the_columns_of_every_model_come_in_their_order() -> None:
    models = [spec("second", "embedding", dtype="float16"), spec("first")]
    carried = [pa.field("place", pa.string())]
    names = rows_schema(models, extra_columns=carried).names
    assert names[: len(IMAGE_FIELDS)] == [field.name for field in IMAGE_FIELDS]
    assert names[len(IMAGE_FIELDS) : -5] == ["place", "second_vector", "first_label"]
    with pytest.raises(SourceError, match="first_score"):
        rows_schema(models, extra_columns=[pa.field("first_score", pa.string())])


def test_one_file_alone_says_what_answered() -> None:
    schema = describe_schema(rows_schema([spec()]), [spec()], "bf16")
    about = json.loads(schema.metadata[b"cvbatch"])
    assert about["precision"] == "bf16"
    assert [(model["alias"], model["categories"]) for model in about["models"]] == [("classification", 3)]
    assert about["versions"]["pyarrow"] == pa.__version__
