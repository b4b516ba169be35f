"""Private and undocumented behaviour of botocore that the package depends on, checked with the installed version."""

from __future__ import annotations

from typing import Any

import botocore.session
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.credentials import RefreshableCredentials
from botocore.exceptions import ClientError

from cvbatch.storage import botocore_compat
from tests.rigs.web import Web, answer

LISTING = "/bucket?list-type=2&encoding-type=url"


def client(web: Web) -> Any:
    session = botocore.session.Session()
    botocore_compat.share_descriptions(session)
    made = session.create_client(
        "s3",
        region_name="us-east-1",
        endpoint_url=f"http://127.0.0.1:{web.port}",
        config=Config(signature_version=UNSIGNED, s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}),
    )
    botocore_compat.take_bodies(made, "ListObjectsV2")
    return made


@pytest.mark.parametrize(
    "body",
    [b"<ListBucketResult/>", b"<Error><Code>InternalError</Code></Error>", b"no XML", b""],
    ids=["a page", "an error with 200", "broken", "empty"],
)
def test_responses_with_status_200_are_returned_unparsed(body: bytes, web: Web) -> None:
    web.pages[LISTING] = answer(body)
    taken = client(web).list_objects_v2(Bucket="bucket", EncodingType="url")
    assert botocore_compat.body_of(taken) == body
    assert "Contents" not in taken


def test_errors_with_a_status_are_raised(web: Web) -> None:
    web.pages[LISTING] = answer(b"<Error><Code>AccessDenied</Code></Error>", 403)
    with pytest.raises(ClientError) as caught:
        client(web).list_objects_v2(Bucket="bucket", EncodingType="url")
    assert caught.value.response["Error"]["Code"] == "AccessDenied"


def test_other_operations_are_parsed(web: Web) -> None:
    web.pages["/bucket?location"] = answer(b"<LocationConstraint>eu-central-1</LocationConstraint>")
    assert client(web).get_bucket_location(Bucket="bucket")["LocationConstraint"] == "eu-central-1"


def test_descriptions_are_read_once_for_all_sessions() -> None:
    sessions = [botocore.session.Session() for _ in range(2)]
    for session in sessions:
        botocore_compat.share_descriptions(session)
    first_loader, second_loader = (session.get_component("data_loader") for session in sessions)
    assert first_loader is second_loader
    model = sessions[0].get_service_model("s3")
    loaded = first_loader.load_service_model("s3", "service-2")
    assert loaded is second_loader.load_service_model("s3", "service-2")
    assert model.service_name == "s3"


def test_credentials_are_renewed_early_enough() -> None:
    assert RefreshableCredentials._mandatory_refresh_timeout > botocore_compat.CREDENTIALS_LAST.total_seconds()
