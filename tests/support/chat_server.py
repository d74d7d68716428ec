"""A chat-completions endpoint on loopback that follows a script, faults included."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Reply:
    """One answer of the script. Streaming follows the request unless the status is an error.

    `stop_after` breaks the connection after that many characters; `silent_end` ends the stream without a finish
    reason; `usage` None reports none; `delay_s` waits before the first byte; `body` replaces the whole response.
    """

    text: str = ""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    stop_after: int | None = None
    silent_end: bool = False
    usage: tuple[int, int] | None = (100, 20)
    delay_s: float = 0.0
    body: bytes | None = None
    code: str | None = None


class ChatServer:
    """`requests` holds the JSON bodies received, `authorizations` their keys, `times` when they came."""

    def __init__(self, replies: Sequence[Reply]) -> None:
        self.replies = list(replies)
        self.requests: list[dict[str, Any]] = []
        self.authorizations: list[str] = []
        self.times: list[float] = []
        self._lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                server.answer(self)

            def log_message(self, *arguments: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers["Content-Length"]))
        with self._lock:
            self.requests.append(json.loads(body))
            self.authorizations.append(handler.headers.get("Authorization", ""))
            self.times.append(time.monotonic())
            reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        time.sleep(reply.delay_s)
        try:
            self._send(handler, reply, json.loads(body))
        except (BrokenPipeError, ConnectionResetError):
            handler.close_connection = True  # the client had enough

    def _send(self, handler: BaseHTTPRequestHandler, reply: Reply, request: dict[str, Any]) -> None:
        if reply.body is not None:
            _respond(handler, reply.status, reply.body, reply.headers)
        elif reply.status != 200:
            error = {"error": {"message": f"scripted {reply.status}", "type": "error", "code": reply.code}}
            _respond(handler, reply.status, json.dumps(error).encode(), reply.headers)
        elif request.get("stream"):
            _stream(handler, reply, bool((request.get("stream_options") or {}).get("include_usage")))
        else:
            _respond(handler, 200, json.dumps(_completion(reply)).encode(), reply.headers)


def _respond(handler: BaseHTTPRequestHandler, status: int, body: bytes, headers: dict[str, str]) -> None:
    handler.send_response(status)
    for name, value in {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers}.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(body)


def _completion(reply: Reply) -> dict[str, Any]:
    message = {"role": "assistant", "content": reply.text}
    record: dict[str, Any] = {
        "id": "c", "object": "chat.completion", "created": 0, "model": "scripted",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
    }  # fmt: skip
    return {**record, "usage": _usage(reply.usage)} if reply.usage else record


def _usage(usage: tuple[int, int]) -> dict[str, int]:
    return {"prompt_tokens": usage[0], "completion_tokens": usage[1], "total_tokens": sum(usage)}


def _stream(handler: BaseHTTPRequestHandler, reply: Reply, include_usage: bool) -> None:
    handler.send_response(200)
    handler.send_header("Content-Type", "text/event-stream")
    handler.send_header("Connection", "close")
    handler.end_headers()
    handler.close_connection = True
    text = reply.text if reply.stop_after is None else reply.text[: reply.stop_after]
    step = max(7, len(text) // 50)
    for start in range(0, len(text), step):
        _event(handler, [{"index": 0, "delta": {"content": text[start : start + step]}, "finish_reason": None}])
    if reply.stop_after is not None:
        return
    if not reply.silent_end:
        _event(handler, [{"index": 0, "delta": {}, "finish_reason": "stop"}])
    if include_usage and reply.usage:
        _event(handler, [], _usage(reply.usage))
    handler.wfile.write(b"data: [DONE]\n\n")


def _event(handler: BaseHTTPRequestHandler, choices: list[dict[str, Any]], usage: dict[str, int] | None = None) -> None:
    record: dict[str, Any] = {
        "id": "c", "object": "chat.completion.chunk", "created": 0, "model": "scripted", "choices": choices,
    }  # fmt: skip
    handler.wfile.write(b"data: " + json.dumps({**record, "usage": usage}).encode() + b"\n\n")
    handler.wfile.flush()


@contextmanager
def chat_server(*replies: Reply) -> Iterator[ChatServer]:
    server = ChatServer(replies)
    server.start()
    try:
        yield server
    finally:
        server.stop()
