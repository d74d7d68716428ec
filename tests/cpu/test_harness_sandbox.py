"""What a worker cannot do, at each level that this machine reaches, tried from native code."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from kernelagent.harness.memory import Arena, plan
from kernelagent.harness.process import Worker, WorkerFailure, WorkerOptions
from kernelagent.harness.sandbox import Level, Sandbox, probe

PROBES = """
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <netinet/in.h>
#include <unistd.h>
static void *idle(void *p) { return p; }
#define EXPECT(name, ...) void name(int *out) { int r = -1; errno = 0; __VA_ARGS__; out[0] = r < 0 ? errno : 0; }
EXPECT(connect_out, {
  int s = socket(AF_INET, SOCK_STREAM, 0); r = s;
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(PORT), .sin_addr = {htonl(INADDR_LOOPBACK)}};
  if (s >= 0) r = connect(s, (void *)&a, sizeof a);
})
EXPECT(write_outside, r = open(OUTSIDE, O_WRONLY | O_CREAT, 0600))
EXPECT(remove_outside, r = unlink(PRECIOUS))
EXPECT(read_secret, { r = open(PRECIOUS, O_RDONLY); })
EXPECT(fork_once, { r = fork(); if (r == 0) _exit(0); if (r > 0) waitpid(r, 0, 0); })
EXPECT(execute, { r = execl("/bin/true", "true", (char *)0); })
EXPECT(kill_parent, r = kill(PARENT, 0))
EXPECT(start_thread, { pthread_t t; r = -pthread_create(&t, 0, idle, 0); if (!r) pthread_join(t, 0); })
EXPECT(large_file, {
  int f = open(SCRATCH, O_WRONLY | O_CREAT | O_TRUNC, 0600);
  r = f < 0 ? -1 : ftruncate(f, 1 << 30);
})
void print_environment(int *out) { out[0] = getenv("OPENAI_API_KEY") != NULL; }
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sandbox")


@pytest.fixture(scope="module")
def library(folder: Path, listener: int) -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler")
    (folder / "readable").mkdir()
    (folder / "precious").write_text("precious")
    values = {
        "PORT": listener, "PARENT": os.getpid(), "OUTSIDE": f'"{folder}/made"', "PRECIOUS": f'"{folder}/precious"',
        "SCRATCH": f'"{folder}/large"',
    }  # fmt: skip
    path = folder / "readable" / "probes.so"
    macros = [f"-D{name}={value}" for name, value in values.items()]
    command = [compiler, "-w", "-shared", "-fPIC", *macros, "-x", "c", "-", "-o", str(path), "-lpthread"]
    subprocess.run(command, input=PROBES, text=True, check=True)
    return path


@pytest.fixture(scope="module")
def listener() -> Iterator[int]:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def attempt(library: Path, level: Level, symbol: str) -> int:
    """errno of the attempt in a worker at `level`, 0 if it succeeded. Skips where the level cannot be had."""
    arena = Arena.create(plan([("out", "i32", (1,), True)]))
    with Worker(WorkerOptions(sandbox=level, memory_mb=512, timeout_s=10)) as worker:
        worker.confine([str(library.parent)], arena.nbytes)
        if worker.level != level:
            pytest.skip(f"this machine reaches {worker.level}, not {level}: {worker.missing}")
        worker.load("", {"kind": "shared_object", "path": str(library), "symbol": symbol, "arrays": ["out"]})
        worker.attach("a", arena)
        worker.bind("a", {}, 1)
        worker.run("a")
    return int(arena.array("out")[0])


STRONG: tuple[Level, ...] = ("bubblewrap", "userns", "landlock")


@pytest.mark.parametrize("level", STRONG)
@pytest.mark.parametrize(
    "symbol", ["connect_out", "write_outside", "remove_outside", "fork_once", "execute", "kill_parent"]
)
def test_what_is_refused(library: Path, folder: Path, level: Level, symbol: str) -> None:
    assert attempt(library, level, symbol) != 0
    assert (folder / "precious").read_text() == "precious"
    assert not (folder / "made").exists()


@pytest.mark.parametrize("level", ["userns", "landlock"])
def test_files_of_the_user_cannot_be_read(library: Path, level: Level) -> None:
    assert attempt(library, level, "read_secret") != 0


@pytest.mark.parametrize("level", [*STRONG, "rlimits"])
def test_threads_are_allowed(library: Path, level: Level) -> None:
    assert attempt(library, level, "start_thread") == 0


def test_the_probes_succeed_without_a_sandbox(library: Path, folder: Path) -> None:
    """Otherwise the tests above would show nothing."""
    for symbol in ("connect_out", "write_outside", "read_secret", "fork_once", "kill_parent", "start_thread"):
        assert attempt(library, "none", symbol) == 0, symbol
    (folder / "made").unlink()


def test_large_files_are_refused_by_limits_alone(library: Path) -> None:
    assert attempt(library, "rlimits", "large_file") == errno.EFBIG


def test_secrets_of_the_environment_stay_outside(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    assert attempt(library, "rlimits", "print_environment") == 0


def test_the_level_is_reported() -> None:
    assert probe() in ("bubblewrap", "userns", "landlock", "rlimits")


def test_a_missing_primitive_lowers_the_level(monkeypatch: pytest.MonkeyPatch) -> None:
    def denied() -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("kernelagent.harness.namespaces.enter", denied)
    sandbox = Sandbox("userns")
    assert sandbox.missing == ["namespaces: Operation not permitted"]
    assert sandbox.level == "none"


PARENT = """
import sys, time
from kernelagent.harness.process import Worker, WorkerOptions
import threading
made = []
thread = threading.Thread(target=lambda: made.append(Worker(WorkerOptions())))  # the thread ends, the worker stays
thread.start(); thread.join()
made[0].confine()
print(made[0]._process.pid, flush=True)
time.sleep(60)
"""


def test_workers_die_with_a_killed_parent() -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    try:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        assert exists(worker)
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    deadline = time.monotonic() + 10
    while exists(worker) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not exists(worker)


def exists(process: int) -> bool:
    """Alive, and not a zombie that nobody has collected yet."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def test_closing_leaves_no_process() -> None:
    worker = Worker(WorkerOptions())
    process = worker._process.pid
    worker.close()
    worker.close()
    with pytest.raises(ChildProcessError):
        os.waitpid(process, os.WNOHANG)


def test_a_worker_answers_an_unknown_request_with_an_error() -> None:
    with Worker(WorkerOptions()) as worker, pytest.raises(WorkerFailure, match="unknown operation 'dance'"):
        worker.request({"op": "dance"})


def test_an_interrupted_request_ends_its_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise its late answer would be read as that to the next request."""

    def interrupted(channel: object) -> None:
        raise KeyboardInterrupt

    with Worker(WorkerOptions()) as worker:
        monkeypatch.setattr("kernelagent.harness.protocol.receive", interrupted)
        with pytest.raises(KeyboardInterrupt):
            worker.confine()
        assert not worker.alive
        with pytest.raises(WorkerFailure, match="the worker has ended"):
            worker.confine()


def test_arrays_are_shared_both_ways() -> None:
    arena = Arena.create(plan([("x", "f32", (3,), False), ("y", "f32", (3,), True)]))
    arena.array("x")[...] = [1, 2, 3]
    problem = {"location": "transpose"}
    arena2 = Arena.create(plan([("x", "f32", (2, 3), False), ("y", "f32", (3, 2), True)]))
    arena2.array("x")[...] = np.arange(6).reshape(2, 3)
    with Worker(WorkerOptions(sandbox="none")) as worker:
        worker.load("", {"kind": "numpy", "problem": problem})
        worker.attach("a", arena2)
        worker.bind("a", {}, 1)
        worker.run("a")
    assert np.array_equal(arena2.array("y"), np.arange(6).reshape(2, 3).T)
    arena.close()
