"""Which clusters jobs are given to, and the token for them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cvbatch.errors import UsageError
from cvbatch.submit.address import ClusterAddress, find_ray_token

TOKEN = {"RAY_AUTH_TOKEN": "secret", "HOME": "/nonexistent"}
NOTHING = {"HOME": "/nonexistent"}


@pytest.mark.parametrize(
    "given",
    [
        "http://127.0.0.1:8265",
        "http://localhost:8265/",
        "http://[::1]:8265",
        "https://ray.example.org",
        "http://a.localhost",
    ],
)
def test_what_is_on_this_machine_or_encrypted_needs_no_token(given: str) -> None:
    address = ClusterAddress.from_option(given, environment=NOTHING)
    assert (address.url, address.token, address.request_headers) == (given.rstrip("/"), None, {})


@pytest.mark.parametrize("given", ["http://10.0.0.5:8265", "http://ray.example.org:8265", "http://0.0.0.0:8265"])
def test_whoever_is_on_the_network_needs_a_token_or_consent(given: str) -> None:
    with pytest.raises(UsageError, match=r"anybody there could run code on it.*RAY_AUTH_MODE=token.*--insecure"):
        ClusterAddress.from_option(given, environment=NOTHING)
    assert ClusterAddress.from_option(given, insecure=True, environment=NOTHING).token is None
    assert ClusterAddress.from_option(given, environment=TOKEN).request_headers == {"Authorization": "Bearer secret"}


@pytest.mark.parametrize(
    "given",
    [
        "127.0.0.1:8265",
        "ray://127.0.0.1:10001",
        "auto",
        "http://",
        "ftp://host",
        "",
        "http:///jobs",
        "http://[::1",
        "http://host:port",
        "http://host:99999",
    ],
)
def test_what_is_no_dashboard(given: str) -> None:
    with pytest.raises(UsageError, match=r"expected the dashboard of a cluster, such as http://127\.0\.0\.1:8265"):
        ClusterAddress.from_option(given, environment=TOKEN)


@pytest.mark.parametrize(
    "given", ["http://user:hunter2@127.0.0.1:8265", "http://127.0.0.1:8265?token=hunter2", "ftp://user:hunter2@host"]
)
def test_a_secret_in_the_address_is_refused_and_not_repeated(given: str) -> None:
    with pytest.raises(UsageError) as refused:
        ClusterAddress.from_option(given, environment=TOKEN)
    assert "hunter2" not in str(refused.value)


def test_a_token_is_not_shown() -> None:
    assert "secret" not in repr(ClusterAddress.from_option("http://127.0.0.1:8265", environment=TOKEN))


def test_the_token_comes_from_where_ray_looks_for_it(tmp_path: Path) -> None:
    named, default = tmp_path / "named", tmp_path / ".ray" / "auth_token"
    default.parent.mkdir()
    home = {"HOME": str(tmp_path)}
    assert find_ray_token(home) is None
    default.write_text("default\n")
    assert find_ray_token(home) == "default"
    named.write_text("named\n")
    assert find_ray_token({**home, "RAY_AUTH_TOKEN_PATH": str(named)}) == "named"
    assert find_ray_token({**home, "RAY_AUTH_TOKEN_PATH": str(named), "RAY_AUTH_TOKEN": "given"}) == "given"
    named.write_text("\n")
    assert find_ray_token({**home, "RAY_AUTH_TOKEN_PATH": str(named)}) is None


def test_a_token_file_that_others_may_read_is_closed_to_them(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("secret")
    file.chmod(0o644)
    assert find_ray_token({"RAY_AUTH_TOKEN_PATH": str(file)}) == "secret"
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_token_file_that_is_named_must_be_there(tmp_path: Path) -> None:
    gone = str(tmp_path / "gone")
    with pytest.raises(UsageError, match=re.escape(f"RAY_AUTH_TOKEN_PATH={gone}: cannot be read: No such file")):
        find_ray_token({"RAY_AUTH_TOKEN_PATH": gone})


def test_a_token_file_that_cannot_be_closed_is_taken_as_it_is() -> None:
    file = Path("/proc/self/oom_score_adj")  # everybody may read it, and nobody change that
    with pytest.raises(PermissionError):
        file.chmod(0o600)
    assert find_ray_token({"RAY_AUTH_TOKEN_PATH": str(file)}) == file.read_text().strip()


def test_a_file_that_is_no_token(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_bytes(b"\x89PNG\xff")
    with pytest.raises(UsageError, match=re.escape(f"{file}: expected a token")):
        find_ray_token({"RAY_AUTH_TOKEN_PATH": str(file)})
