"""One start of a run, from the moment it holds it: record, heartbeat, and reasons to stop."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Final

from cvbatch.config.compute import ComputeConfig
from cvbatch.engine.base import Engine
from cvbatch.errors import FencedError, HaltError
from cvbatch.output.commit_log import CommitLog
from cvbatch.output.data_files import WriteResult
from cvbatch.output.lease import Heartbeat
from cvbatch.output.log_records import DataFile
from cvbatch.output.manifest import finish_run, withdraw_success_mark
from cvbatch.planning.parts import delete_orphan_parts, part_paths
from cvbatch.planning.plan import Plan, all_plan_parts
from cvbatch.runs.run_record import RunRecord
from cvbatch.sources.entries import ListingReport
from cvbatch.system.environment import EnvironmentNumber

_FIRST_ROWS: Final = EnvironmentNumber("CVBATCH_ERROR_SHARE_ROWS", 1_000)
"""Rows of a start from which on the share of errors counts."""


class RunAttempt:
    """Holds a run while it works on it; on entry nobody else can commit any more.

    Args:
        log: Of the run; it is opened on entry.
        plan: Of the run.
        engine: Prepared.
        compute: When to stop.
        manifest_only: Whether only the manifest need be right at the end.
    """

    def __init__(
        self, log: CommitLog, plan: Plan, engine: Engine, compute: ComputeConfig, *, manifest_only: bool = False
    ) -> None:
        self._manifest_only = manifest_only
        self.log, self.plan, self.engine = log, plan, engine
        self._compute = compute
        self._record = RunRecord()
        self._stack = ExitStack()
        self._failed = 0

    def __enter__(self) -> RunAttempt:
        written_before = part_paths(self.log.store)
        self.log.open_epoch()
        delete_orphan_parts(self.log.store, written_before, all_plan_parts(self.plan, self.log.state))
        withdraw_success_mark(self.log.store, manifest_only=self._manifest_only)
        self._stack.enter_context(Heartbeat(self.log.store, self.log.state, self._heartbeat_facts))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
        if not isinstance(error, FencedError):  # else the record is that of the newer start
            engine = self.engine
            self._record.save_record(
                self.log.store,
                self.plan,
                self.log.state,
                engine.cluster,
                engine.resource_plan,
                engine.tuning_result,
                error,
            )

    def record_listing(self, listing: ListingReport) -> None:
        """Take note of what the source held besides images when this start listed it again."""
        self._record.listing = listing

    def record_commit(self, written: Sequence[WriteResult], accepted: Sequence[DataFile]) -> None:
        """Take note of files that were written, and of those that count.

        Raises:
            HaltError: If too many of the rows of this start are errors.
        """
        self._record.add_result(written, sum(file.row_count for file in accepted))
        self._failed += sum(sum(file.errors.values()) for file in accepted)
        rows = self._record.rows
        share = self._failed / max(1, rows)
        if rows >= _FIRST_ROWS.current_value and share > self._compute.max_error_share:
            (commonest, count), *_ = self._record.errors.most_common(1)
            raise HaltError(
                f"{self._failed:,} of the last {rows:,} rows are errors, {count:,} of them {commonest}, and "
                f"compute.max_error_share is {self._compute.max_error_share:g}; mend the source, or raise the share, "
                "and the same command goes on"
            )

    def check_budget(self) -> None:
        """End a start whose time or money is used up.

        Raises:
            HaltError: If it is, and work is left.
        """
        state = self.log.state
        if self.engine.time_is_up and state.remaining_rows:
            raise HaltError(
                f"stopped in time, as compute.stop_after or compute.max_cost asks: {len(state.accepted):,} of "
                f"{state.planned:,} rows are committed; the same command goes on"
            )

    def finish_run(self) -> None:
        """Freeze the run; see `output.manifest.finish_run`.

        Raises:
            HaltError: If time or money is used up and work is left, or something must go that may not be deleted.
            FencedError: If another start opened the run meanwhile.
        """
        self.check_budget()
        finish_run(self.log, manifest_only=self._manifest_only)

    def _heartbeat_facts(self) -> dict[str, Any]:
        pools = self.engine.resource_plan
        return {
            "workers": self._record.active_workers(),
            "workers_planned": pools.num_actors,
            "busy_shares": self._record.busy_shares(pools),
            "idle_shares": self._record.idle_shares(),
            "nodes": self._describe_nodes(),
        }

    def _describe_nodes(self) -> list[dict[str, Any]]:
        """What each node has and what became of it; several nodes of one machine share their processes."""
        workers, found = self._record.workers_by_host(), []
        for node in self.engine.nodes():
            here = workers.get(node.host, [])
            idle = [share for worker in here if (share := worker.idle_share) is not None]
            found.append(
                {
                    "host": node.host,
                    "address": node.address,
                    "cpus": node.cpus,
                    "gpus": node.gpus,
                    "predicting": len(here),
                    "rows": sum(worker.rows for worker in here),
                    "idle_share": sum(idle) / len(idle) if idle else None,
                }
            )
        return found
