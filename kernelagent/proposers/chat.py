"""One question to an OpenAI-compatible endpoint: streaming or not, bounded in time, size and retries.

| what happens | what is done |
|---|---|
| 401, 403, 404, other 4xx, quota used up | ModelError at once: trying again changes nothing |
| 429, 408, 409, 5xx, no connection, timeout | wait (Retry-After, capped; else 1, 2, 4 ... s), `retries` times |
| a stream that ends without a finish reason | asked again as above; at last a broken answer, no error |
| more than `max_answer_bytes` | reading stops there |
"""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from email.utils import parsedate_to_datetime
from typing import Any

from kernelagent.proposers.base import ModelError

Message = dict[str, str]
Notify = Callable[[Mapping[str, Any]], object]

FIRST_WAIT_S = 1.0
LONGEST_WAIT_S = 60.0
OVERALL = 5.0
"""An answer may take this many times `timeout_s` in all, however steadily it drips."""
CHARACTERS_PER_TOKEN = 4
_BODY_OVERHEAD = 65536
"""Bytes that a response may have around the answer's text; JSON escapes at most six times the text."""


@dataclass(frozen=True)
class Endpoint:
    """Where and how to ask. Prices are in USD per million tokens."""

    model: str
    api_key: str = field(repr=False)
    base_url: str | None = None
    stream: bool = True
    temperature: float | None = None
    timeout_s: float = 120.0
    retries: int = 4
    max_answer_bytes: int = 200_000
    input_usd_per_million: float | None = None
    output_usd_per_million: float | None = None
    longest_wait_s: float = LONGEST_WAIT_S

    def cost(self, prompt: int, answer: int) -> float | None:
        if self.input_usd_per_million is None and self.output_usd_per_million is None:
            return None
        return (prompt * (self.input_usd_per_million or 0.0) + answer * (self.output_usd_per_million or 0.0)) / 1e6


@dataclass(frozen=True)
class Answer:
    """`broken` says how an answer is incomplete, None for a whole one. Tokens include those of broken attempts."""

    text: str
    prompt_tokens: int
    answer_tokens: int
    estimated: bool
    broken: str | None = None
    attempts: int = 1


class Retry(Exception):
    """This attempt failed in a way that may pass; `wait_s` is what the server asked for."""

    def __init__(self, reason: str, wait_s: float | None = None, partial: Answer | None = None) -> None:
        self.reason, self.wait_s, self.partial = reason, wait_s, partial
        super().__init__(reason)


class Chat:
    """Asks an endpoint. `notify` hears of every wait; `sleep` is a parameter for tests."""

    def __init__(self, endpoint: Endpoint, notify: Notify | None = None, sleep: Callable[[float], None] = time.sleep):
        self.endpoint = endpoint
        self.notify = notify or (lambda record: None)
        self._sleep = sleep
        self._usage_option = True
        self._client: Any = None

    def ask(self, messages: Sequence[Message]) -> Answer:
        """The answer. Raises ModelError when the endpoint cannot be used or the retries are used up."""
        wasted: list[Answer] = []
        for attempt in range(self.endpoint.retries + 1):
            try:
                answer = self._attempt(messages)
                return _with_waste(answer, wasted, attempt + 1)
            except Retry as failure:
                wasted += [failure.partial] if failure.partial else []
                if attempt == self.endpoint.retries:
                    return self._give_up(failure, wasted, attempt + 1)
                self._wait(attempt, failure)
        raise AssertionError("unreachable")

    def _give_up(self, failure: Retry, wasted: list[Answer], attempts: int) -> Answer:
        """A stream that keeps breaking is a bad answer; an endpoint that never answers is no endpoint."""
        if wasted:
            return replace(_with_waste(wasted[-1], wasted[:-1], attempts), broken=failure.reason)
        raise ModelError(f"{self._place} does not answer after {attempts} attempts: {failure.reason}",
                         "resume the run when it does; finished trials are kept")  # fmt: skip

    def _wait(self, attempt: int, failure: Retry) -> None:
        wait = failure.wait_s if failure.wait_s is not None else FIRST_WAIT_S * 2**attempt * (1 + random.random() / 4)
        wait = min(max(0.0, wait), self.endpoint.longest_wait_s)
        self.notify({"reason": failure.reason, "wait_s": round(wait, 3), "attempt": attempt + 1})
        self._sleep(wait)

    @property
    def _place(self) -> str:
        return self.endpoint.base_url or "the model endpoint"

    def _attempt(self, messages: Sequence[Message]) -> Answer:
        import openai

        try:
            return self._streamed(messages) if self.endpoint.stream else self._whole(messages)
        except openai.APITimeoutError:
            raise Retry(f"no answer within {self.endpoint.timeout_s:g} s") from None
        except openai.APIConnectionError as error:
            raise Retry(f"no connection ({type(error.__cause__ or error).__name__})") from None
        except openai.APIStatusError as error:
            if self._usage_option and error.status_code in (400, 422) and "stream_options" in str(error):
                self._usage_option = False  # an endpoint that does not know how to report usage in a stream
                return self._attempt(messages)
            raise self._refusal(error) from None
        except openai.APIError as error:  # an error event inside a stream
            raise Retry(f"the endpoint reported an error: {str(error)[:200]}") from None

    def _refusal(self, error: Any) -> Exception:
        status, said = error.status_code, str(error.message)[:300]
        if status in (401, 403):
            return ModelError(f"{self._place} refused the key (HTTP {status})", "set OPENAI_API_KEY to a valid key")
        if status == 404:
            return ModelError(f"{self._place} knows no model '{self.endpoint.model}' (HTTP 404)",
                              "check --model and --base-url")  # fmt: skip
        if getattr(error, "code", None) == "insufficient_quota":
            return ModelError(f"{self._place}: the account has no quota left")
        if status in (408, 409, 429) or status >= 500:
            return Retry(f"HTTP {status}", retry_after(error.response.headers))
        return ModelError(f"{self._place} refused the request (HTTP {status}): {said}")

    def _open(self) -> Any:
        import openai

        if self._client is None:
            self._client = openai.OpenAI(
                api_key=self.endpoint.api_key, base_url=self.endpoint.base_url, max_retries=0,
                timeout=self.endpoint.timeout_s,
            )  # fmt: skip
        return self._client.chat.completions

    def _request(self, messages: Sequence[Message]) -> dict[str, Any]:
        request: dict[str, Any] = {"model": self.endpoint.model, "messages": list(messages)}
        if self.endpoint.temperature is not None:
            request["temperature"] = self.endpoint.temperature
        return request

    def _streamed(self, messages: Sequence[Message]) -> Answer:
        request = {**self._request(messages), "stream": True}
        if self._usage_option:
            request["stream_options"] = {"include_usage": True}
        reading = _Reading(self.endpoint, messages)
        with self._open().create(**request) as stream:
            reason = reading.consume(stream)
        if reason is not None:
            raise Retry(reason, partial=reading.answer())
        return reading.answer()

    def _whole(self, messages: Sequence[Message]) -> Answer:
        """Not streamed, but read in pieces all the same, so that nothing endless is taken in."""
        limit = 6 * self.endpoint.max_answer_bytes + _BODY_OVERHEAD
        with self._open().with_streaming_response.create(**self._request(messages)) as response:
            body = _read_at_most(response.iter_bytes(), limit, time.monotonic() + OVERALL * self.endpoint.timeout_s)
        reading = _Reading(self.endpoint, messages)
        if len(body) >= limit:
            return replace(reading.answer(), broken=f"the response is longer than {limit} bytes")
        try:
            record = json.loads(body)
            reading.take(record["choices"][0]["message"].get("content") or "")
            reading.usage(record.get("usage"))
        except (ValueError, LookupError, AttributeError, TypeError):
            raise Retry("the response is not a chat completion") from None
        return reading.answer()


class _Reading:
    """Collects an answer up to its limit."""

    def __init__(self, endpoint: Endpoint, messages: Sequence[Message]) -> None:
        self._endpoint = endpoint
        self._deadline = time.monotonic() + OVERALL * endpoint.timeout_s
        self._parts: list[str] = []
        self._bytes = 0
        self._cut: str | None = None
        self._prompt = estimate("".join(m["content"] for m in messages))
        self._answer: int | None = None

    def consume(self, stream: Any) -> str | None:
        """Read to the end; None, or why the answer is not whole and worth asking for again."""
        import openai

        finished = False
        try:
            for chunk in stream:
                self.usage(_usage_record(chunk))
                for choice in chunk.choices[:1]:
                    self.take(getattr(choice.delta, "content", None) or "")
                    finished = finished or choice.finish_reason is not None
                if self._cut or time.monotonic() > self._deadline:
                    self._cut = self._cut or "the answer took too long"
                    return None
        except openai.APIError as error:
            if not self._parts:
                raise
            return f"the stream broke off ({type(error).__name__})"
        except Exception as error:  # noqa: BLE001 - the transport's errors pass through openai as they are
            return f"the stream broke off ({type(error).__name__})"
        return None if finished else "the stream ended before the answer did"

    def take(self, text: str) -> None:
        room = self._endpoint.max_answer_bytes - self._bytes
        data = text.encode("utf-8", "replace")
        if len(data) > room:
            self._cut = f"the answer was cut off at {self._endpoint.max_answer_bytes} bytes"
            text = data[:room].decode("utf-8", "ignore")
        self._parts.append(text)
        self._bytes += min(len(data), room)

    def usage(self, record: Any) -> None:
        if isinstance(record, Mapping):
            prompt, answer = record.get("prompt_tokens"), record.get("completion_tokens")
            if isinstance(prompt, int) and isinstance(answer, int):
                self._prompt, self._answer = prompt, answer

    def answer(self) -> Answer:
        text = "".join(self._parts)
        known = self._answer is not None
        return Answer(
            text, self._prompt, self._answer if self._answer is not None else estimate(text), not known, self._cut
        )


def _usage_record(chunk: Any) -> Any:
    usage = getattr(chunk, "usage", None)
    return (
        None if usage is None else {name: getattr(usage, name, None) for name in ("prompt_tokens", "completion_tokens")}
    )


def _with_waste(answer: Answer, wasted: Sequence[Answer], attempts: int) -> Answer:
    return replace(
        answer,
        prompt_tokens=answer.prompt_tokens + sum(w.prompt_tokens for w in wasted),
        answer_tokens=answer.answer_tokens + sum(w.answer_tokens for w in wasted),
        estimated=answer.estimated or bool(wasted),
        attempts=attempts,
    )


def _read_at_most(parts: Any, limit: int, deadline: float) -> bytes:
    body = bytearray()
    for part in parts:
        body += part
        if len(body) > limit or time.monotonic() > deadline:
            break
    return bytes(body[:limit])


def estimate(text: str) -> int:
    """Tokens of a text at four characters each."""
    return math.ceil(len(text) / CHARACTERS_PER_TOKEN)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds of a `Retry-After` (or `retry-after-ms`) header, a number or a date; None without a sensible one."""
    try:
        if "retry-after-ms" in headers:
            return _sensible(float(headers["retry-after-ms"]) / 1000)
        value = headers.get("retry-after")
        if value is None:
            return None
        if value.strip().replace(".", "", 1).isdigit():
            return _sensible(float(value))
        return _sensible(parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError):
        return None


def _sensible(seconds: float) -> float | None:
    return max(0.0, seconds) if math.isfinite(seconds) else None
