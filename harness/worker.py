"""The worker process: one subject, run and timed on the parent's arrays at the parent's command.

Started by `process.Worker` as `python -m kernelagent.harness.worker OPTIONS`. It never sees an expected value, a seed
or a verdict. Requests are objects with `op`; every answer has `ok`.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from typing import TYPE_CHECKING, Any

from kernelagent.harness import protocol, rlimits, syscalls
from kernelagent.harness.sandbox import Sandbox, readable_folders

if TYPE_CHECKING:
    from kernelagent.harness.memory import Arena
    from kernelagent.harness.subjects import Bind, Run


class Server:
    """State of a worker: mapped arenas, loaded subjects, and bindings by arena."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.arenas: dict[str, Arena] = {}
        self.bindings: dict[str, Run] = {}
        self.subjects: dict[str, Bind] = {}
        self.flush_buffer: Any = None

    def answer(self, request: dict[str, Any], descriptors: list[int]) -> dict[str, Any]:
        operation = getattr(self, f"do_{request['op']}", None)
        if operation is None:
            raise ValueError(f"unknown operation {request['op']!r}")
        answer = operation(request, descriptors) or {}
        assert isinstance(answer, dict)
        return {"ok": True, **answer}

    def do_confine(self, request: dict[str, Any], _: list[int]) -> dict[str, Any]:
        """Close the sandbox. Afterwards `readable` and the system's folders are all that can be opened."""
        self.sandbox.close(readable_folders(request["readable"]), request["memory_bytes"])
        return {
            "level": self.sandbox.level,
            "primitives": self.sandbox.primitives,
            "missing": self.sandbox.missing,
            "limit_bytes": rlimits.address_space_limit(),
        }

    def do_load(self, request: dict[str, Any], _: list[int]) -> None:
        from kernelagent.harness import subjects

        self.subjects[request["name"]] = subjects.load(request["subject"])

    def do_arena(self, request: dict[str, Any], descriptors: list[int]) -> None:
        from kernelagent.harness.memory import Arena, slots_from

        arena = Arena(descriptors[0], slots_from(request["layout"]))
        arena.close()
        self.arenas[request["name"]] = arena

    def do_bind(self, request: dict[str, Any], _: list[int]) -> None:
        from kernelagent.harness.subjects import Binding

        arena = self.arenas[request["arena"]]
        inputs = {name: arena.array(name) for name in arena.inputs()}
        outputs = {name: arena.array(name) for name in arena.outputs()}
        binding = Binding(inputs, outputs, request["scalars"], request["threads"])
        self.bindings[request["arena"]] = self.subjects[request["subject"]](binding)

    def do_forget(self, request: dict[str, Any], _: list[int]) -> None:
        self.bindings.pop(request["arena"], None)
        self.arenas.pop(request["arena"], None)

    def do_run(self, request: dict[str, Any], _: list[int]) -> None:
        self.bindings[request["arena"]]()

    def do_time(self, request: dict[str, Any], _: list[int]) -> dict[str, Any]:
        """`repeats` timed runs, each behind a flush of the caches on `cpus`; nanoseconds of each."""
        run = self.bindings[request["arena"]]
        return {"ns": [self._sample(run, request["cpus"]) for _ in range(request["repeats"])]}

    def _sample(self, run: Run, cpus: list[int]) -> int:
        from kernelagent.harness.caches import flush

        flush(self._flush_data(), cpus)
        start = time.perf_counter_ns()
        run()
        return time.perf_counter_ns() - start

    def _flush_data(self) -> Any:
        if self.flush_buffer is None:
            self.flush_buffer = self.arenas["flush"].array("buffer")
        return self.flush_buffer


def serve(channel: socket.socket, server: Server) -> None:
    """Answer requests until the channel closes."""
    while True:
        try:
            request, descriptors = protocol.receive(channel)
        except protocol.ProtocolError:
            return
        try:
            answer = server.answer(request, descriptors)
        except MemoryError:
            answer = {"ok": False, "kind": "memory", "message": "memory limit"}
        except Exception as error:  # noqa: BLE001 - whatever a subject raises is its result
            answer = {"ok": False, "kind": type(error).__name__, "message": str(error)[:4000]}
        protocol.send(channel, answer)


def main() -> None:
    options = json.loads(sys.argv[1])
    syscalls.die_with_parent()
    if options["parent"] not in (0, os.getppid()):
        return  # it died before we asked to die with it
    sandbox = Sandbox(options["sandbox"])
    from kernelagent.harness import subjects

    subjects.prepare(options["prepare"])  # before memory is limited and reading is restricted
    serve(socket.socket(fileno=options["channel"]), Server(sandbox))


if __name__ == "__main__":
    main()
