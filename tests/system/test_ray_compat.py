"""Private and text-matched behaviour of Ray, checked with the installed version."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import json
import logging
import mmap
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray.data import DataContext

import cvbatch
from cvbatch.config.compute import ComputeConfig
from cvbatch.engine.dataflow import WaveInterruption, data_settings
from cvbatch.engine.nodes import Cluster, ClusterNode
from cvbatch.engine.resource_plan import allocate_resources
from cvbatch.errors import UsageError
from cvbatch.inference.settings import REFERENCE
from cvbatch.system import ray_compat
from cvbatch.tuning.certificate import TuningResult
from tests.samples import spec

INSTALLED = Path(ray.__file__).parent
NATIVE = (INSTALLED / "_raylet.so", INSTALLED / "core" / "src" / "ray" / "raylet" / "raylet")
PARTS = ("_common", "_private", "dashboard", "data", "train", "util")
"""Packages of Ray whose Python code reads the variables; those for serving do not count."""
VARIABLE = re.compile(r"RAY_\w+")

PROVOKED = """
import json, logging, os, sys, time
from cvbatch.engine.startup import RayStartup
from cvbatch.system import ray_compat
startup = RayStartup()
startup.wait_until_ready()
import ray
from cvbatch.engine.dataflow import WaveInterruption
from cvbatch.engine.ray_errors import RayErrorCapture

steps, said = [], {}
(node,) = ray.nodes()
said["resources"], said["labels"] = list(node["Resources"]), list(node["Labels"])
said["socket"] = node["ObjectStoreSocketName"]
said["has_logs"] = os.path.isdir(ray_compat.log_folder())

@ray.remote
def chained():
    try:
        raise KeyError("first")
    except KeyError as error:
        raise ValueError("second") from error

@ray.remote
def path():
    return sys.path

@ray.remote(max_restarts=1)
class Mortal:
    def restarted(self):
        return ray_compat.actor_was_restarted()
    def die(self):
        os._exit(1)

try:
    ray.get(chained.remote())
except ray.exceptions.RayTaskError as error:
    said["root"], said["cause"] = ray_compat.root_line(str(error)), type(ray_compat.cause_of(error)).__name__
said["path"] = ray.get(path.remote())

actor = Mortal.remote()
said["restarted"] = [ray.get(actor.restarted.remote())]
actor.die.remote()
while len(said["restarted"]) < 2:
    try:
        said["restarted"].append(ray.get(actor.restarted.remote()))
    except ray.exceptions.RayActorError:
        time.sleep(0.1)
del actor

def fail_once(batch):
    if batch["id"][0] == 1:
        raise ValueError("a broken block")
    return batch

WaveInterruption.should_stop = lambda: bool(steps.append(1))
ray_compat.set_data_context(
    {"max_errored_blocks": 1, "custom_execution_callback_classes": [WaveInterruption], "enable_progress_bars": False}
)
complaints = RayErrorCapture()
with complaints.capture_errors():
    dataset = ray.data.range(4, override_num_blocks=4).map_batches(fail_once, batch_size=None)
    bundles = list(ray_compat.iter_bundles(dataset))
said["steps"], said["complaint"] = len(steps), ray_compat.root_line(str(complaints.last))
said["rows"] = sum(bundle.num_rows() for bundle in bundles)
said["bytes"] = sum(bundle.size_bytes() for bundle in bundles)
blocks = ray.get(ray_compat.block_references(bundles))
said["blocks"] = sorted(row for block in blocks for row in block["id"].to_pylist())
print(json.dumps(said))
startup.stop_ray()
"""


@pytest.fixture(scope="module")
def provoked(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Behaviour of a real local head; its temporary folder has a short path, so that Ray appends to it."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    short = tempfile.mkdtemp(prefix="r", dir="/tmp")
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    script = tmp_path_factory.mktemp("scripts") / "script.py"
    script.write_text(PROVOKED)
    process = subprocess.run(
        [sys.executable, str(script)],
        env={**environment, "TMPDIR": short, "PYTHONPATH": str(Path(cvbatch.__file__).parent.parent)},
        cwd=elsewhere,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    shutil.rmtree(short, ignore_errors=True)
    assert process.returncode == 0, process.stderr
    return SimpleNamespace(**json.loads(process.stdout.splitlines()[-1]), folder=short, elsewhere=str(elsewhere))


@pytest.mark.filterwarnings("ignore:.*is deprecated:DeprecationWarning")  # from Ray, when it creates a context
def test_the_data_context_has_every_attribute_that_is_set() -> None:
    cluster = Cluster((ClusterNode("127.0.0.1", 4.0),), local=True, object_store_bytes=1 << 30)
    pools = allocate_resources(cluster, ComputeConfig(), [spec()], 12, TuningResult(REFERENCE, ""))
    settings = data_settings(pools, max_lost_units=1, stalled_after=1.0)
    assert [name for name in settings if not hasattr(DataContext(), name)] == []


@pytest.mark.filterwarnings("ignore:.*is deprecated:DeprecationWarning")  # from Ray, when it creates a context
def test_an_unknown_attribute_is_refused_and_nothing_is_set() -> None:
    context = DataContext.get_current()
    before = context.max_errored_blocks
    with pytest.raises(UsageError, match=r"Ray 2\.\d+\.\d+ has no DataContext\.most_errored_blocks: expected"):
        ray_compat.set_data_context({"max_errored_blocks": before + 1, "most_errored_blocks": 1})
    assert context.max_errored_blocks == before
    assert not hasattr(context, "most_errored_blocks")


def test_only_ray_compat_sets_attributes_of_the_data_context() -> None:
    root = Path(cvbatch.__file__).parent
    assert [path.name for path in root.rglob("*.py") if "DataContext.get_current" in path.read_text()] == [
        "ray_compat.py"
    ]


def variables() -> set[str]:
    """All environment variables of Ray that the package names in a string of their own."""
    trees = [ast.parse(path.read_text()) for path in Path(cvbatch.__file__).parent.rglob("*.py")]
    texts = {node.value for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    return {text for text in texts if isinstance(text, str) and VARIABLE.fullmatch(text)}


def test_each_environment_variable_is_named_in_the_installed_ray() -> None:
    lacking = variables()
    assert lacking >= {
        *ray_compat.CLUSTER_ENVIRONMENT,
        *ray_compat.OWN_HEAD_ENVIRONMENT,
        *ray_compat.TRAIN_ENVIRONMENT,
        "RAY_ADDRESS",
    }
    for native in NATIVE:
        with native.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            lacking = {name for name in lacking if content.find(name.encode() + b"\0") < 0}
    for part in PARTS:
        for path in (INSTALLED / part).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            lacking = {name for name in lacking if f'"{name}"' not in text}
    assert lacking == set()


EFFECTS = """
import ray.data, ray._private.ray_constants as constants
from ray.data._internal.execution.backpressure_policy import downstream_capacity_backpressure_policy as policy
from ray._common.usage.usage_lib import usage_stats_enabled
print(
    constants.ENABLE_RAY_CLUSTER,
    policy.DownstreamCapacityBackpressurePolicy.OBJECT_STORE_BUDGET_UTIL_THRESHOLD,
    ray.data.DataContext.get_current().enable_progress_bars,
    usage_stats_enabled(),
)
"""


def test_the_environment_has_its_intended_effects() -> None:
    """The effects in Python; `engine/test_startup.py` checks that a head listens on loopback only."""
    wanted = {**ray_compat.CLUSTER_ENVIRONMENT, **ray_compat.OWN_HEAD_ENVIRONMENT}
    process = subprocess.run(
        [sys.executable, "-c", EFFECTS], env={**os.environ, **wanted}, capture_output=True, text=True, check=True
    )
    assert process.stdout.split() == ["False", "0.0", "False", "False"]


def test_the_job_client_takes_an_address_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise there would be no reason to remove the variables."""
    from ray.dashboard.utils import get_address_for_submission_client

    for name in ray_compat.ADDRESS_OVERRIDES:
        with monkeypatch.context() as patch:
            patch.setenv(name, "http://127.0.0.1:1")
            assert get_address_for_submission_client(None) == "http://127.0.0.1:1"


def test_a_callback_is_called_at_each_step(provoked: Any) -> None:
    assert provoked.steps > 4


def test_the_overridden_callback_methods_exist() -> None:
    (base,) = (kind for kind in WaveInterruption.__mro__ if kind.__module__.startswith("ray.data"))
    assert base.__name__ == "ExecutionCallback"
    assert list(inspect.signature(base.on_execution_step).parameters) == ["self", "executor"]
    with pytest.raises(AttributeError, match="has no attribute 'ExecutionFallback'"):
        _ = ray_compat.ExecutionFallback


def test_bundles_know_their_rows_bytes_and_blocks(provoked: Any) -> None:
    assert (provoked.rows, provoked.blocks) == (3, [0, 2, 3])
    assert provoked.bytes > 0


def test_a_lost_block_is_reported_to_the_logger(provoked: Any) -> None:
    assert provoked.complaint == "ValueError: a broken block"


def test_an_actor_knows_that_it_was_restarted(provoked: Any) -> None:
    assert provoked.restarted == [False, True]
    assert ray_compat.actor_was_restarted() is False


def test_the_root_of_a_chained_traceback_is_found(provoked: Any) -> None:
    assert provoked.root == "KeyError: 'first'"
    assert provoked.cause == "ValueError"
    assert ray_compat.root_line("") == ""


def test_workers_do_not_import_from_the_current_folder(provoked: Any) -> None:
    assert provoked.elsewhere not in provoked.path
    assert "_py_driver_sys_path.extend(" in inspect.getsource(ray._private.worker), "or it is set in another way"


def test_a_node_has_the_expected_resources_and_labels(provoked: Any) -> None:
    assert f"{ray_compat.NODE_RESOURCE}127.0.0.1" in provoked.resources
    assert ray_compat.NODE_ID_LABEL in provoked.labels
    from ray._private.resource_and_label_spec import RESOURCE_CONSTRAINT_PREFIX

    assert RESOURCE_CONSTRAINT_PREFIX == ray_compat.ACCELERATOR_RESOURCE


def test_sockets_and_log_files_are_in_the_expected_folders(provoked: Any) -> None:
    appended = provoked.socket.removeprefix(provoked.folder)
    assert re.sub(r"\d", "0", appended)[:35] == re.sub(r"\d", "0", ray_compat.SOCKET_PATH)[:35]
    assert os.path.basename(appended) == "plasma_store"
    assert len(appended) <= len(ray_compat.SOCKET_PATH)
    assert provoked.has_logs


def test_the_temporary_folder_is_an_argument() -> None:
    (name,) = ray_compat.temporary_folder("/tmp")
    assert f'kwargs.pop("{name}"' in inspect.getsource(ray.init)


def test_log_file_handlers_are_distinguished_from_console_handlers() -> None:
    code = (
        "import logging, ray.data; from cvbatch.system.ray_compat import writes_log_files as writes;"
        "print(*sorted(writes(each) for each in logging.getLogger('ray.data').handlers))"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert process.stdout.split() == ["False", "True"]


def test_a_version_mismatch_has_the_expected_message() -> None:
    from ray._private.utils import check_version_info

    with pytest.raises(RuntimeError) as caught:
        check_version_info({"ray_version": "1.0", "python_version": "2.7"}, "here")
    assert ray_compat.is_other_version(str(caught.value))
    assert not ray_compat.is_other_version("connection refused")


def source(module: str) -> str:
    """Source of a module of the dashboard; an import would raise warnings."""
    return (INSTALLED / "dashboard" / "modules" / module).read_text(encoding="utf-8")


def test_a_missing_agent_has_the_expected_message() -> None:
    from ray.dashboard.modules.dashboard_sdk import SubmissionClient

    (text,) = re.findall(r'text="(No available agent[^"]*)"', source("job/job_head.py"))
    answer = SimpleNamespace(status_code=500, text=text)
    with pytest.raises(RuntimeError) as caught:
        SubmissionClient._raise_error(SimpleNamespace(), answer)
    assert ray_compat.agent_is_missing(caught.value)
    assert not ray_compat.agent_is_missing(RuntimeError("no such job"))


def test_the_loggers_of_the_job_client_exist() -> None:
    before = {name: logging.getLogger(name).level for name in ("ray", *loggers())}
    try:
        ray_compat.quiet_job_client()
        assert {logging.getLogger(name).level for name in before} == {logging.ERROR}
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)
    for name in loggers():
        module_spec = importlib.util.find_spec(name)
        assert module_spec is not None, name
        assert module_spec.origin is not None
        assert "logging.getLogger(__name__)" in Path(module_spec.origin).read_text()


def loggers() -> list[str]:
    return [f"ray.{module}" for module in ray_compat._JOB_LOGGERS]


def test_the_dashboard_answers_at_the_expected_paths() -> None:
    assert f'routes.get("{ray_compat.VERSION_PATH}")' in source("job/job_head.py")
    path = ray_compat.NODES_PATH.partition("?")[0]
    assert f'routes.get("{path}")' in source("state/state_head.py")


def test_only_alive_nodes_are_returned() -> None:
    from ray.util.state.common import NodeState

    assert {"state", "node_ip"} <= NodeState.columns()
    nodes = [{"state": state, "node_ip": state} for state in ("ALIVE", "DEAD")]
    assert ray_compat.living_nodes({"data": {"result": {"result": nodes}}}) == (nodes[0],)
    assert ray_compat.living_nodes({}) == ()
