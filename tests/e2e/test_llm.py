"""The llm proposer through the real openai package against a scripted endpoint on loopback."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from kernelagent.dsl.moves import apply
from kernelagent.knowledge_base import KnowledgeBase
from support.chat_server import ChatServer, Reply, chat_server
from support.runs import means, plan
from support.synthetic_lab import SEED, SyntheticLab

import kernelagent
from kernelagent.agent.budget import Budget
from kernelagent.agent.run import complete, start
from kernelagent.proposers.base import ModelError
from kernelagent.proposers.chat import Chat, Endpoint
from kernelagent.proposers.llm import LlmProposer
from kernelagent.redact import Redactor

KEY = "sk-test-3f9ac1d2e4b5a6978877665544332211"
GUIDE = "A short guide."
QUESTION = [{"role": "user", "content": "a question of forty characters, or nearly"}]
BETTER = apply("set_tunable", SEED, name="BR", value=8)
BEST = apply("set_tunable", BETTER, name="BC", value=256)


def fence(text: str, language: str = "python") -> str:
    return f"Here it is.\n\n```{language}\n{text}```\nIt should be faster.\n"


def endpoint(server: ChatServer, **changes: Any) -> Endpoint:
    values: dict[str, Any] = {
        "model": "scripted",
        "api_key": KEY,
        "base_url": server.url,
        "timeout_s": 5.0,
        "retries": 2,
    }
    return Endpoint(**{**values, **changes})


def chat(server: ChatServer, **changes: Any) -> tuple[Chat, list[float]]:
    waits: list[float] = []
    return Chat(endpoint(server, **changes), sleep=waits.append), waits


@pytest.fixture(params=[True, False], ids=["stream", "whole"])
def stream(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def test_an_answer_with_its_usage(stream: bool) -> None:
    with chat_server(Reply("hello", usage=(321, 45))) as server:
        answer = chat(server, stream=stream)[0].ask(QUESTION)
    assert (answer.text, answer.prompt_tokens, answer.answer_tokens, answer.estimated) == ("hello", 321, 45, False)
    assert server.authorizations == [f"Bearer {KEY}"]
    assert server.requests[0]["messages"] == QUESTION


def test_tokens_are_estimated_and_labelled_without_usage(stream: bool) -> None:
    with chat_server(Reply("x" * 400, usage=None)) as server:
        answer = chat(server, stream=stream)[0].ask(QUESTION)
    assert answer.estimated
    assert answer.answer_tokens == 100
    assert answer.prompt_tokens == 11


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_stops_at_once(status: int, stream: bool) -> None:
    with chat_server(Reply(status=status)) as server, pytest.raises(ModelError, match="refused the key") as refusal:
        chat(server, stream=stream)[0].ask(QUESTION)
    assert len(server.requests) == 1
    assert refusal.value.exit_code == 3
    assert KEY not in str(refusal.value)


@pytest.mark.parametrize(("status", "code"), [(404, None), (400, None), (429, "insufficient_quota")])
def test_what_will_not_pass_is_not_tried_again(status: int, code: str | None) -> None:
    with chat_server(Reply(status=status, code=code)) as server, pytest.raises(ModelError):
        chat(server)[0].ask(QUESTION)
    assert len(server.requests) == 1


def test_retry_after_is_honoured(stream: bool) -> None:
    with chat_server(Reply(status=429, headers={"Retry-After": "7"}), Reply("ok")) as server:
        asked, waits = chat(server, stream=stream)
        assert asked.ask(QUESTION).text == "ok"
    assert waits == [7.0]


def test_retry_after_is_capped() -> None:
    with chat_server(Reply(status=429, headers={"Retry-After": "86400"}), Reply("ok")) as server:
        asked, waits = chat(server, longest_wait_s=30.0)
        asked.ask(QUESTION)
    assert waits == [30.0]


def test_without_retry_after_the_wait_grows() -> None:
    with chat_server(Reply(status=429), Reply(status=500), Reply("ok")) as server:
        asked, waits = chat(server)
        assert asked.ask(QUESTION).attempts == 3
    assert 1.0 <= waits[0] <= 1.25
    assert 2.0 <= waits[1] <= 2.5


@pytest.mark.parametrize("status", [429, 500, 503])
def test_retries_are_bounded(status: int, stream: bool) -> None:
    with chat_server(Reply(status=status)) as server, pytest.raises(ModelError, match="after 3 attempts"):
        chat(server, stream=stream)[0].ask(QUESTION)
    assert len(server.requests) == 3


def test_a_real_wait_is_made() -> None:
    with chat_server(Reply(status=429, headers={"retry-after-ms": "200"}), Reply("ok")) as server:
        Chat(endpoint(server)).ask(QUESTION)
    assert server.times[1] - server.times[0] >= 0.2


def test_a_silent_endpoint_times_out(stream: bool) -> None:
    with chat_server(Reply("late", delay_s=1.5)) as server:
        begin = time.monotonic()
        with pytest.raises(ModelError, match="no answer within"):
            chat(server, stream=stream, timeout_s=0.2, retries=1)[0].ask(QUESTION)
    assert time.monotonic() - begin < 1.4


def test_no_endpoint_at_all() -> None:
    asked = Chat(Endpoint("m", KEY, "http://127.0.0.1:9/v1", retries=1), sleep=lambda seconds: None)
    with pytest.raises(ModelError, match="no connection"):
        asked.ask(QUESTION)


@pytest.mark.parametrize("fault", [Reply(fence(BETTER), stop_after=60), Reply(fence(BETTER), silent_end=True)])
def test_a_stream_that_stops_is_asked_for_again(fault: Reply) -> None:
    with chat_server(fault, Reply("whole")) as server:
        answer = chat(server)[0].ask(QUESTION)
    assert (answer.text, answer.attempts, answer.broken) == ("whole", 2, None)
    assert answer.estimated, "the tokens of the broken attempt were counted by length"
    assert answer.prompt_tokens > 100


def test_a_stream_that_always_stops_is_a_broken_answer_and_no_error() -> None:
    with chat_server(Reply("half of it", stop_after=4)) as server:
        answer = chat(server)[0].ask(QUESTION)
    assert answer.broken is not None
    assert len(server.requests) == 3


def test_a_megabyte_is_cut(stream: bool) -> None:
    with chat_server(Reply("é" * 700_000)) as server:
        answer = chat(server, stream=stream, max_answer_bytes=100_000)[0].ask(QUESTION)
    assert answer.broken is not None
    assert "100000 bytes" in answer.broken or "longer than" in answer.broken
    assert len(answer.text.encode()) <= 100_000
    assert len(server.requests) == 1


def test_what_is_no_completion_is_refused_in_the_end() -> None:
    page = Reply(body=b"<html>a gateway's page</html>", headers={"Content-Type": "text/html"})
    with chat_server(page) as server, pytest.raises(ModelError, match="not a chat completion"):
        chat(server, stream=False)[0].ask(QUESTION)
    assert len(server.requests) == 3


def test_a_stream_of_something_else_is_a_broken_answer() -> None:
    page = Reply(body=b"<html>a gateway's page</html>", headers={"Content-Type": "text/html"})
    with chat_server(page) as server:
        answer = chat(server)[0].ask(QUESTION)
    assert answer.broken == "the stream ended before the answer did"
    assert answer.text == ""


def test_an_endpoint_without_stream_options() -> None:
    refusal = json.dumps({"error": {"message": "unknown field stream_options", "type": "invalid"}}).encode()
    with chat_server(Reply(status=400, body=refusal), Reply("ok", usage=None)) as server:
        assert chat(server)[0].ask(QUESTION).text == "ok"
    assert "stream_options" not in server.requests[1]


# Whole runs ------------------------------------------------------------------------------------------


def run_with(
    server: ChatServer, folder: Path, trials: int = 2, lab: Any = None, **changes: Any
) -> tuple[dict[str, Any], Path]:
    """The outcome and the folder of a run."""
    budget = changes.pop("budget", Budget(trials))
    redactor = Redactor((KEY,))
    asked = Chat(endpoint(server, **changes), sleep=lambda seconds: None)
    proposer = LlmProposer(asked, redactor, GUIDE)
    base = KnowledgeBase(folder / "kb.db", (KEY,))
    with start(plan(budget=budget), means(proposer, lab, base, redactor=redactor), folder / "runs") as run:
        return complete(run), run.folder


def events(folder: Path, kind: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    return [e for e in found if e["kind"] == kind]


def test_a_run_takes_the_kernels_of_the_model(tmp_path: Path, stream: bool) -> None:
    with chat_server(Reply(fence(BETTER)), Reply(fence(BEST, "tile"))) as server:
        record, folder = run_with(
            server, tmp_path, stream=stream, input_usd_per_million=10.0, output_usd_per_million=50.0
        )
    assert record["best"]["time_ms"] == pytest.approx(1.0)
    assert record["tokens"] == 240
    assert record["cost_usd"] == pytest.approx(2 * (100 * 10 + 20 * 50) / 1e6)
    assert not record["tokens_estimated"]
    assert (folder / "best.tile").read_text() == BEST
    prompt = server.requests[1]["messages"]
    assert prompt[0]["content"].endswith(GUIDE + "\n")
    assert BETTER in prompt[1]["content"], "the best kernel so far is shown"
    assert "load(x, (i, j), (BR, BC)) * 2.0" in prompt[1]["content"]


def test_prose_is_answered_with_what_is_wrong(tmp_path: Path) -> None:
    with chat_server(Reply("I would tile it differently."), Reply(""), Reply(fence(BETTER))) as server:
        record, folder = run_with(server, tmp_path, trials=1)
    assert record["trials"] == 1
    assert record["best"]["trial"] == 1
    assert [e["attempt"] for e in events(folder, "proposal")] == [0, 0, 1, 2]
    assert "no fenced kernel text" in server.requests[1]["messages"][-1]["content"]
    assert "the answer is empty" in server.requests[2]["messages"][-1]["content"]


def test_prose_for_ever_is_a_failed_trial_each_time(tmp_path: Path) -> None:
    with chat_server(Reply("No.")) as server:
        record, folder = run_with(server, tmp_path, trials=2)
    assert record["trials"] == 2
    assert len(server.requests) == 2 * 3
    assert [e["status"] for e in events(folder, "trial-finished")] == ["PASSED", "REJECTED", "REJECTED"]
    assert record["best"]["trial"] == 0, "the seed remains"


def test_a_wrong_text_is_repaired_with_its_diagnostics(tmp_path: Path) -> None:
    wrong = BETTER.replace("store(y", "store(y,,")
    with chat_server(Reply(fence(wrong)), Reply(fence(BETTER))) as server:
        record, _ = run_with(server, tmp_path, trials=1)
    assert record["best"]["time_ms"] == pytest.approx(2.6)
    assert "error[syntax]" in server.requests[1]["messages"][-1]["content"]


def test_the_token_budget_ends_the_run(tmp_path: Path) -> None:
    with chat_server(Reply(fence(BETTER), usage=(900, 200)), Reply(fence(BEST), usage=(900, 200))) as server:
        record, _ = run_with(server, tmp_path, budget=Budget(trials=10, tokens=1000))
    assert record["stop_reason"] == "budget-tokens"
    assert record["trials"] == 1


def test_the_cost_budget_ends_the_run(tmp_path: Path) -> None:
    with chat_server(Reply(fence(BETTER), usage=(1_000_000, 0)), Reply(fence(BEST))) as server:
        record, _ = run_with(server, tmp_path, budget=Budget(trials=10, max_cost_usd=0.5), input_usd_per_million=1.0)
    assert record["stop_reason"] == "budget-cost"


def test_a_lost_endpoint_leaves_a_run_that_can_be_resumed(tmp_path: Path) -> None:
    scripted = chat_server(Reply(fence(BETTER)), Reply(status=500))
    with scripted as server, pytest.raises(ModelError, match="does not answer"):
        run_with(server, tmp_path, trials=3)
    folder = next((tmp_path / "runs").iterdir())
    assert [e["number"] for e in events(folder, "trial-finished")] == [0, 1]
    assert events(folder, "interrupted")[-1]["reason"] == "model"
    assert [e["reason"] for e in events(folder, "retry")] == ["HTTP 500", "HTTP 500"]


def test_the_key_is_nowhere(tmp_path: Path) -> None:
    """Not in prompts, events, checkpoints, kernels, the base, or results, even when the model says it back."""
    leak = BETTER.replace("edition(1)", f"edition(1)\n# my key is {KEY}", 1)

    class Chatty(SyntheticLab):
        def environment(self) -> dict[str, Any]:
            return {"note": f"Authorization: Bearer {KEY}"}

    with chat_server(Reply(f"The key is {KEY}."), Reply(fence(leak)), Reply(fence(BEST))) as server:
        run_with(server, tmp_path, trials=2, lab=Chatty())
    found = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert len(found) >= 6
    assert not [p for p in found if KEY.encode() in p.read_bytes()]
    assert KEY not in json.dumps(server.requests)


def test_the_whole_road(tmp_path: Path) -> None:
    """Guide, prompt, endpoint, compiler, sandbox, clock: nothing scripted but the model."""
    problem = kernelagent.problems.load("row_sum")
    better = apply("set_tunable", problem.seed_kernel, name="BR", value=1)
    mistyped = better.replace("cast(total, T)", "cast(totl, T)")
    with chat_server(Reply(fence(mistyped)), Reply(fence(better))) as server:
        result = kernelagent.optimize(
            "row_sum", workload="small", budget=Budget(trials=1), proposer="llm", model="scripted", api_key=KEY,
            base_url=server.url, home=tmp_path, rivals=(),
        )  # fmt: skip
    assert result.record["trials"] == 1
    assert [e["status"] for e in events(result.folder, "trial-finished")] == ["PASSED", "PASSED"]
    system, question = (m["content"] for m in server.requests[0]["messages"])
    assert "edition(1)" in system
    assert "xp.sum" in question
    said = server.requests[1]["messages"][-1]["content"]
    assert "totl" in said
    assert "^" in said, "the caret shows the place"
    found = [p for p in tmp_path.rglob("*") if p.is_file() and KEY.encode() in p.read_bytes()]
    assert not found
