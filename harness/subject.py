"""Something that runs in a worker: a candidate or a baseline, bound to input sets as they are needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kernelagent.harness.caches import flush_bytes
from kernelagent.harness.correctness import Finding, examine, fingerprints, judge, same_bits
from kernelagent.harness.inputs import InputSet
from kernelagent.harness.memory import Arena, Fingerprint, plan
from kernelagent.harness.process import Worker

_FLUSH = "flush"


def flush_arena() -> Arena:
    """The buffer that workers read to empty the caches, shared so that it exists once."""
    arena = Arena.create(plan([("buffer", "i32", (flush_bytes() // 4,), False)]))
    arena.array("buffer")[...] = 1  # real pages: reading a hole would touch no memory
    return arena


class Subject:
    """A worker and what it runs: `records` for `subjects.load` by workload name, "" for those not listed."""

    def __init__(
        self, name: str, worker: Worker, records: Mapping[str, Mapping[str, Any]], flush: Arena, load_timeout_s: float
    ) -> None:
        self.name = name
        self.worker = worker
        self._flush = flush
        self._bound: set[str] = set()
        self._accepted: dict[str, Mapping[str, Fingerprint]] = {}
        self._records = set(records)
        for workload, record in records.items():
            worker.load(workload, record, load_timeout_s)

    def bind(self, inputs: InputSet) -> str:
        """Map the set's arrays in the worker unless they are; the set's key there."""
        key = str(inputs.key)
        if key not in self._bound:
            self.worker.attach(key, inputs.arena)
            subject = inputs.like if inputs.like in self._records else ""
            self.worker.bind(key, inputs.scalars, self.worker.options.threads, subject)
            self._bound.add(key)
        return key

    def forget(self, inputs: InputSet) -> None:
        key = str(inputs.key)
        if key in self._bound:
            self.worker.forget(key)
            self._bound.remove(key)
            self._accepted.pop(key, None)

    def run(self, inputs: InputSet) -> None:
        self.worker.run(self.bind(inputs))

    def sample(self, inputs: InputSet, cpus: Sequence[int]) -> float:
        key = self.bind(inputs)
        if _FLUSH not in self._bound:
            self.worker.attach(_FLUSH, self._flush)
            self._bound.add(_FLUSH)
        return self.worker.time(key, cpus)[0]

    def examine(self, inputs: InputSet, deterministic: bool = True) -> Finding:
        """`correctness.examine`; what it accepts is remembered for audits."""
        finding = examine(self, inputs, deterministic)
        if finding.accepted and deterministic:
            self._accepted[str(inputs.key)] = finding.accepted
        return finding

    def audit(self, inputs: InputSet) -> str:
        """After a timed run: the accepted bits again, or at least a right answer; else what is wrong."""
        accepted = self._accepted.get(str(inputs.key))
        if accepted is not None and same_bits(fingerprints(inputs), accepted):
            return ""
        finding = judge(inputs)
        return "" if finding.status == "PASSED" or finding.unsure else f"a timed run was wrong: {finding.detail}"

    def close(self) -> None:
        self._accepted.clear()
        self.worker.close()
