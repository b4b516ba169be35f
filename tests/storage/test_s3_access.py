"""Credentials, endpoint and region, access as all AWS tools find them."""

from __future__ import annotations

from pathlib import Path

import botocore.session
import pytest
from botocore.exceptions import NoCredentialsError
from botocore.stub import Stubber

from cvbatch.errors import DeniedError, JobError
from cvbatch.storage.buckets import Bucket, open_bucket
from cvbatch.storage.location import Location
from cvbatch.storage.options import StorageOptions
from cvbatch.storage.s3_access import bucket_region, find_s3_access
from tests.rigs.objects import ObjectServer

HERE = StorageOptions(endpoint_url="http://127.0.0.1:9")


@pytest.fixture(autouse=True)
def _nobody(as_job: ObjectServer, out: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in as_job.job.environment:
        monkeypatch.delenv(name)


@pytest.fixture
def profile(as_job: ObjectServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A profile with the endpoint in the config file, and the keys in the credentials file."""
    who = as_job.job
    (tmp_path / "credentials").write_text(
        f"[lab]\naws_access_key_id = {who.key}\naws_secret_access_key = {who.secret}\n"
    )
    (tmp_path / "config").write_text(f"[profile lab]\nendpoint_url = {as_job.endpoint}\nregion = eu-north-1\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    return "lab"


def test_a_profile_sets_everything(as_job: ObjectServer, out: str, profile: str) -> None:
    bucket = out
    bucket_in_use = Bucket(Location.from_uri(f"s3://{bucket}", StorageOptions(profile=profile)))
    bucket_in_use.put_object("a", b"1")
    assert bucket_in_use.get_object("a").data == b"1"
    access = find_s3_access(bucket, StorageOptions(profile=profile))
    assert (access.endpoint, access.region, access.path_style) == (as_job.endpoint, "eu-north-1", True)


@pytest.mark.parametrize("name", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"])
def test_the_environment_names_the_endpoint(
    as_job: ObjectServer, out: str, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    for key, value in {**as_job.job.environment, name: as_job.endpoint}.items():
        monkeypatch.setenv(key, value)
    bucket_in_use = Bucket(Location.from_uri(f"s3://{out}"))
    bucket_in_use.put_object("a", b"1")
    assert [page.objects["key"].to_pylist() for page in bucket_in_use.list_objects("")] == [["a"]]


def test_options_of_the_job_override_the_environment(
    as_job: ObjectServer, out: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key, value in {**as_job.job.environment, "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9"}.items():
        monkeypatch.setenv(key, value)
    place = Location.from_uri(f"s3://{out}", StorageOptions(endpoint_url=as_job.endpoint))
    open_bucket(place).put_object("a", b"1")
    assert [page.objects["key"].to_pylist() for page in open_bucket(place).list_objects("")] == [["a"]]


def test_a_missing_profile() -> None:
    with pytest.raises(JobError, match="no profile 'nobody'"):
        find_s3_access("bucket", StorageOptions(profile="nobody"))


def test_a_machine_without_credentials() -> None:
    with pytest.raises(NoCredentialsError):
        find_s3_access("bucket", HERE)
    with pytest.raises(DeniedError, match="s3://bucket: expected credentials in the environment"):
        open_bucket(Location.from_uri("s3://bucket/x", HERE))


def test_anonymous_requests_have_no_credentials(as_job: ObjectServer) -> None:
    place = Location.from_uri("s3://images-x", StorageOptions(endpoint_url=as_job.endpoint, anonymous=True))
    with pytest.raises(DeniedError, match="403 AccessDenied"):
        open_bucket(place).get_object("a")
    with pytest.raises(DeniedError, match="403 AccessDenied"):
        list(open_bucket(place).list_objects(""))


@pytest.mark.parametrize(
    ("options", "endpoint", "path_style"),
    [
        (StorageOptions(region="eu-west-1"), "https://s3.eu-west-1.amazonaws.com", False),
        (StorageOptions(region="cn-north-1"), "https://s3.cn-north-1.amazonaws.com.cn", False),
        (StorageOptions(region="eu-west-1", path_style=True), "https://s3.eu-west-1.amazonaws.com", True),
        (StorageOptions(endpoint_url="https://s3.example.org"), "https://s3.example.org", True),
        (StorageOptions(endpoint_url="https://s3.example.org", path_style=False), "https://s3.example.org", False),
    ],
)
def test_the_bucket_is_in_the_path_or_in_the_host(
    monkeypatch: pytest.MonkeyPatch, options: StorageOptions, endpoint: str, path_style: bool
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "y")
    access = find_s3_access("bucket", options)
    assert (access.endpoint, access.path_style) == (endpoint, path_style)
    assert find_s3_access("dotted.bucket", options).path_style == (path_style or options.path_style is None)


@pytest.mark.parametrize("status", [200, 403])
def test_the_service_names_the_region_of_a_bucket(status: int) -> None:
    client = botocore.session.Session().create_client(
        "s3", region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="y"
    )
    headers = {"HTTPHeaders": {"x-amz-bucket-region": "ap-south-1"}}
    with Stubber(client) as stub:
        if status == 200:
            stub.add_response("head_bucket", {"ResponseMetadata": headers})
        else:
            stub.add_client_error("head_bucket", "403", http_status_code=403, response_meta=headers)
        assert bucket_region(client, "bucket") == "ap-south-1"
