"""Models of the hub: from its cache without a connection, and what is said where there is none."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.rigs.transformers_models import save_vit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
NOWHERE = {"HF_ENDPOINT": "http://127.0.0.1:9"}
CODE = """
import json, sys
from cvbatch.config.job import ModelConfig
from cvbatch.errors import CvbatchError
from cvbatch.models.resolve import resolve_models
try:
    (spec,) = resolve_models([ModelConfig(model=sys.argv[1])])
    print(json.dumps([spec.name, spec.options["revision"], spec.weights_path, spec.label_map]))
except CvbatchError as error:
    print(json.dumps(str(error)))
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of the hub with one model, as its client lays it out."""
    home = tmp_path_factory.mktemp("home")
    repository = home / "hub" / "models--owner--tiny"
    save_vit(repository / "snapshots" / COMMIT)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    return home


def resolve(model: str, home: Path, variables: Mapping[str, str]) -> object:
    environment = {"PATH": "/usr/bin:/bin", "HF_HOME": str(home), "HOME": str(home), "PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", CODE, model],
        capture_output=True,
        text=True,
        check=False,
        env={**environment, **variables},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("variables", [{"HF_HUB_OFFLINE": "1"}, NOWHERE], ids=["offline", "unreachable"])
def test_a_cached_model_needs_no_connection_and_its_commit_is_pinned(home: Path, variables: dict[str, str]) -> None:
    weights = home / "hub" / "models--owner--tiny" / "snapshots" / COMMIT / "model.safetensors"
    expected = ["owner/tiny", COMMIT, str(weights), "categories of classification"]
    assert resolve("hf:owner/tiny", home, variables) == expected


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("hf:owner/other", "hf:owner/other is not on this machine, and the hub cannot be reached"),
        ("hf:owner/tiny@v2", "hf:owner/tiny@v2 is not on this machine"),
        ("hf:owner/with/folders", "expected hf:OWNER/NAME of the hub, or hf:./FOLDER, and there is no such folder"),
    ],
)
def test_what_is_not_here_is_said_in_one_line(model: str, words: str, home: Path) -> None:
    said = resolve(model, home, NOWHERE)
    assert isinstance(said, str)
    assert words in said
    assert "\n" not in said
