"""The parent's handle on a worker process: started in its own session, spoken to with deadlines, killed for good."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from kernelagent.harness import bubblewrap, protocol, rlimits
from kernelagent.harness.memory import Arena
from kernelagent.harness.sandbox import Level

START_TIMEOUT_S = 60.0
_LOG_TAIL = 2000
_WATCH_MS = 5
_DYING_S = 5.0
_STACK_BYTES = 10 << 20  # of a thread, reserved rather than used
_KEPT_VARIABLES = ("PATH", "LANG", "LC_ALL", "PYTHONPATH", "LD_LIBRARY_PATH", "TMPDIR", "VIRTUAL_ENV")
_TRUSTED_VARIABLES = ("HOME", "CC", "CXX", "TORCHINDUCTOR_CACHE_DIR", "XDG_CACHE_HOME", "USER")


class WorkerFailure(Exception):
    """The worker did not do what it was told: `status` is TIMEOUT or RUNTIME_ERROR, `detail` says how."""

    def __init__(self, status: Literal["TIMEOUT", "RUNTIME_ERROR"], detail: str) -> None:
        self.status: Literal["TIMEOUT", "RUNTIME_ERROR"] = status
        self.detail = detail
        super().__init__(f"{status}: {detail}")


@dataclass(frozen=True)
class WorkerOptions:
    """`memory_mb` (MiB on top of what the interpreter and the shared arrays map) None means no limit. `prepare` is
    a kind of subject whose imports are done at the start: while the parent still compiles, and outside the limits."""

    sandbox: Level = "bubblewrap"
    memory_mb: int | None = 2048
    threads: int = 1
    timeout_s: float = 10.0
    environment: Mapping[str, str] = field(default_factory=dict)
    prepare: str = ""


class Worker:
    """A worker process. Any failure kills it; `close` does so too and is safe to call twice."""

    def __init__(self, options: WorkerOptions) -> None:
        self.options = options
        self.level: Level = "none"
        self.primitives: list[str] = []
        self.missing: list[str] = []
        self._limit_bytes: int | None = None  # of the address space
        self._mapped_bytes = 0  # the most that was seen
        self._log = _log_file()
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._process = _SPAWNER.submit(self._spawn, theirs.fileno()).result()
        except BaseException:
            self._channel.close()
            os.close(self._log)
            raise
        finally:
            theirs.close()

    def confine(self, readable: Sequence[str] = (), array_bytes: int = 0) -> None:
        """Close the sandbox; `array_bytes` of shared arrays will still be mapped. Raises WorkerFailure."""
        memory = self.options.memory_mb
        limit = None if memory is None else (memory << 20) + array_bytes + _STACK_BYTES * self.options.threads
        request = {"op": "confine", "readable": list(readable), "memory_bytes": limit}
        answer = self.request(request, timeout_s=START_TIMEOUT_S)
        self.level, self.primitives, self.missing = answer["level"], answer["primitives"], answer["missing"]
        self._limit_bytes = answer["limit_bytes"]

    def load(self, name: str, subject: Mapping[str, Any], timeout_s: float | None = None) -> None:
        """Load something to run under a name. Raises WorkerFailure."""
        self.request({"op": "load", "name": name, "subject": dict(subject)}, timeout_s=timeout_s)

    def attach(self, name: str, arena: Arena) -> None:
        """Map a shared arena in the worker under `name`."""
        self.request({"op": "arena", "name": name, "layout": arena.layout()}, [arena.descriptor])

    def bind(self, arena: str, scalars: Mapping[str, float | int | bool], threads: int, subject: str = "") -> None:
        """Bind a loaded subject to the arrays of an attached arena. Raises WorkerFailure."""
        self.request({"op": "bind", "arena": arena, "subject": subject, "scalars": dict(scalars), "threads": threads})

    def forget(self, arena: str) -> None:
        self.request({"op": "forget", "arena": arena})

    def run(self, arena: str, timeout_s: float | None = None) -> None:
        """One run on the arrays of `arena`, which must be bound. Raises WorkerFailure."""
        self.request({"op": "run", "arena": arena}, timeout_s=timeout_s)

    def time(self, arena: str, cpus: Sequence[int], repeats: int = 1) -> list[float]:
        """Milliseconds of each of `repeats` runs with cold caches. Raises WorkerFailure."""
        start = time.perf_counter_ns()
        answer = self.request({"op": "time", "arena": arena, "cpus": list(cpus), "repeats": repeats})
        samples = [int(ns) for ns in answer["ns"]]
        if len(samples) != repeats or min(samples) <= 0 or sum(samples) > time.perf_counter_ns() - start:
            self._fail("RUNTIME_ERROR", "the worker reported impossible times")
        return [ns / 1e6 for ns in samples]

    def request(
        self, message: dict[str, Any], descriptors: Sequence[int] = (), timeout_s: float | None = None
    ) -> dict[str, Any]:
        """Send and wait for the answer. Raises WorkerFailure after a deadline, a crash, or an error in the worker."""
        if self._process.returncode is not None:
            raise WorkerFailure("RUNTIME_ERROR", "the worker has ended")
        deadline = self.options.timeout_s if timeout_s is None else timeout_s
        self._channel.settimeout(deadline)
        try:
            protocol.send(self._channel, message, descriptors)
            if message["op"] == "run" and self._limit_bytes is not None:
                self._watch_memory(deadline)
            answer, _ = protocol.receive(self._channel)
        except TimeoutError:
            self._fail("TIMEOUT", f"no answer to {message['op']!r} after {deadline:g} s")
        except (protocol.ProtocolError, OSError):
            self._fail("RUNTIME_ERROR", self._cause_of_death())
        except BaseException:  # an interrupt: the late answer must not be taken for that to the next request
            self.close()
            raise
        if not answer.get("ok"):
            self._fail("RUNTIME_ERROR", self._describe(answer))
        return answer

    @property
    def alive(self) -> bool:
        return self._process.returncode is None and not _ended(self._process)

    def close(self) -> None:
        """Kill the whole process group and wait for it."""
        if self._process.returncode is None:
            _kill_group(self._process.pid)
            self._process.wait()
        self._channel.close()
        if self._log >= 0:
            os.close(self._log)
            self._log = -1

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _watch_memory(self, deadline_s: float) -> None:
        """Wait for an answer and note how much the worker maps meanwhile: nothing tells once it is dead."""
        poll = select.poll()
        poll.register(self._channel, select.POLLIN)
        end = time.monotonic() + deadline_s
        worker = _innermost(self._process.pid)
        while not poll.poll(_WATCH_MS) and time.monotonic() < end:
            self._mapped_bytes = max(self._mapped_bytes, rlimits.mapped_bytes(worker))

    def _spawn(self, channel: int) -> subprocess.Popen[bytes]:
        prefix = bubblewrap.command() if self.options.sandbox == "bubblewrap" else None
        sandbox: Level = "userns" if self.options.sandbox == "bubblewrap" and prefix is None else self.options.sandbox
        own = {
            "channel": channel,
            "parent": 0 if prefix else os.getpid(),
            "sandbox": sandbox,
            "prepare": self.options.prepare,
        }
        command = [*(prefix or ()), sys.executable, "-P", "-m", "kernelagent.harness.worker", json.dumps(own)]
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log, pass_fds=[channel], cwd="/",
            start_new_session=True, env=self._environment(),
        )  # fmt: skip

    def _environment(self) -> dict[str, str]:
        """No secret of the user's reaches a candidate; numpy in a worker starts no threads of its own."""
        kept = _KEPT_VARIABLES + (_TRUSTED_VARIABLES if self.options.sandbox == "none" else ())
        threads = str(self.options.threads if self.options.sandbox == "none" else 1)
        return {
            **{name: os.environ[name] for name in kept if name in os.environ},
            "OPENBLAS_NUM_THREADS": threads,
            "OMP_NUM_THREADS": threads,
            "PYTHONDONTWRITEBYTECODE": "1",
            "MALLOC_ARENA_MAX": "1",  # or every thread reserves 64 MiB of the address space
            **self.options.environment,
        }

    def _fail(self, status: Literal["TIMEOUT", "RUNTIME_ERROR"], detail: str) -> None:
        self.close()
        raise WorkerFailure(status, detail)

    def _describe(self, answer: Mapping[str, Any]) -> str:
        if answer.get("kind") == "memory":
            return f"memory limit of {self.options.memory_mb} MiB"
        return f"{answer.get('kind')}: {answer.get('message')}"

    def _cause_of_death(self) -> str:
        """What ended the worker, from its exit status, what it had mapped and the end of what it printed."""
        _let_die(self._process)
        _kill_group(self._process.pid)  # and children it may have left; before reaping, so that the id is still ours
        self._process.wait()
        cause = _exit_cause(self._process.returncode, wrapped=self.level == "bubblewrap")
        if self._near_limit():
            cause = f"memory limit of {self.options.memory_mb} MiB ({cause})"
        tail = self._log_tail()
        return f"{cause}: {tail}" if tail else cause

    def _near_limit(self) -> bool:
        """Whether it died in the last quarter of the memory it was given."""
        if self._limit_bytes is None or self.options.memory_mb is None:
            return False
        return self._mapped_bytes > self._limit_bytes - (self.options.memory_mb << 20) // 4

    def _log_tail(self) -> str:
        size = os.fstat(self._log).st_size
        return os.pread(self._log, _LOG_TAIL, max(0, size - _LOG_TAIL)).decode(errors="replace").strip()


def _kill_group(process: int) -> None:
    try:
        os.killpg(process, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return  # it is gone already


def _innermost(process: int) -> int:
    """The process itself, or the last descendant where a sandbox program stands in between."""
    try:
        children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    except OSError:
        return process
    return _innermost(int(children[0])) if children else process


def _exit_cause(code: int, wrapped: bool) -> str:
    """The signal or exit code in words; a wrapper process reports a signal as 128 + its number."""
    number = -code if code < 0 else code - 128 if wrapped else 0
    known = {int(s): s.name for s in signal.Signals}
    return known.get(number, f"exit code {code}")


def _let_die(process: subprocess.Popen[bytes]) -> None:
    """Give a crashing worker a moment to finish dying by itself, so that the true signal is seen."""
    deadline = time.monotonic() + _DYING_S
    while not _ended(process) and time.monotonic() < deadline:
        time.sleep(0.002)


def _ended(process: subprocess.Popen[bytes]) -> bool:
    """Whether it is dead, without collecting it: its id must stay taken until its group was killed."""
    if process.returncode is not None:
        return True
    if not hasattr(os, "waitid"):  # macOS
        return process.poll() is not None
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _log_file() -> int:
    if sys.platform == "linux":
        return os.memfd_create("kernelagent-log", os.MFD_CLOEXEC)
    import tempfile

    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


class _Spawner:
    """Starts every worker from one thread that lives as long as this process: the kernel kills a worker when the
    thread that started it ends, and callers may come from short-lived threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._owner = 0
        self._pool: ThreadPoolExecutor | None = None

    def submit(self, *arguments: Any) -> Any:
        with self._lock:
            if self._pool is None or self._owner != os.getpid():  # also after a fork
                self._pool, self._owner = ThreadPoolExecutor(1, "kernelagent-spawner"), os.getpid()
            return self._pool.submit(*arguments)


_SPAWNER = _Spawner()
