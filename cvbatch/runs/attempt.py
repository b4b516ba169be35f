"""One attempt at a run while it holds the lease: run record, heartbeat and reasons to stop."""

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
"""`compute.max_error_share` applies once an attempt has committed this many rows."""


class RunAttempt:
    """Context manager that holds a run; from entry on no other attempt can commit.

    Args:
        log: Log of the run; a new epoch is opened on entry.
        plan: Plan of the run.
        engine: Engine prepared for the plan.
        compute: Limits on errors, time and cost.
        manifest_only: Whether replaced files may stay in the output at the end.
    """

    def __init__(
        self, log: CommitLog, plan: Plan, engine: Engine, compute: ComputeConfig, *, manifest_only: bool = False
    ) -> None:
        self._manifest_only = manifest_only
        self.log, self.plan, self.engine = log, plan, engine
        self._compute = compute
        self._record = RunRecord()
        self._stack = ExitStack()
        self._failed_rows = 0

    def __enter__(self) -> RunAttempt:
        existing_parts = part_paths(self.log.store)
        self.log.open_epoch()
        delete_orphan_parts(self.log.store, existing_parts, all_plan_parts(self.plan, self.log.state))
        withdraw_success_mark(self.log.store, manifest_only=self._manifest_only)
        self._stack.enter_context(Heartbeat(self.log.store, self.log.state, self._heartbeat_facts))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
        if not isinstance(error, FencedError):  # a newer attempt owns the record then
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
        """Record files that this attempt skipped or could not read when it listed the source."""
        self._record.listing = listing

    def record_commit(self, written: Sequence[WriteResult], accepted: Sequence[DataFile]) -> None:
        """Record written files, and those of them that the log accepted.

        Raises:
            HaltError: If too many rows of this attempt are errors.
        """
        self._record.add_result(written, sum(file.row_count for file in accepted))
        self._failed_rows += sum(sum(file.errors.values()) for file in accepted)
        rows = self._record.rows
        share = self._failed_rows / max(1, rows)
        if rows >= _FIRST_ROWS.current_value and share > self._compute.max_error_share:
            (error_type, count), *_ = self._record.errors.most_common(1)
            raise HaltError(
                f"{self._failed_rows:,} of the last {rows:,} rows are errors, {count:,} of them {error_type}, and "
                f"compute.max_error_share is {self._compute.max_error_share:g}; fix the source or raise the share, "
                "then run the same command to continue"
            )

    def check_budget(self) -> None:
        """Stop the attempt if its time or cost budget is used up.

        Raises:
            HaltError: If it is used up and rows remain.
        """
        state = self.log.state
        if self.engine.time_is_up and state.remaining_rows:
            raise HaltError(
                f"stopped by compute.stop_after or compute.max_cost: {len(state.accepted):,} of {state.planned:,} rows "
                "are committed; run the same command to continue"
            )

    def finish_run(self) -> None:
        """Finish the run; see `output.manifest.finish_run`.

        Raises:
            HaltError: If the budget is used up and rows remain, or a file must be deleted and may not be.
            FencedError: If another attempt has opened the run.
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
        """Resources and progress of each node; nodes on the same host show the same workers."""
        workers_by_host, descriptions = self._record.workers_by_host(), []
        for node in self.engine.nodes():
            workers = workers_by_host.get(node.host, [])
            idle_shares = [share for worker in workers if (share := worker.idle_share) is not None]
            descriptions.append(
                {
                    "host": node.host,
                    "address": node.address,
                    "cpus": node.cpus,
                    "gpus": node.gpus,
                    "predicting": len(workers),
                    "rows": sum(worker.rows for worker in workers),
                    "idle_share": sum(idle_shares) / len(idle_shares) if idle_shares else None,
                }
            )
        return descriptions
