"""Messages between the parent and a worker: a length, a number of file descriptors, then JSON.

They travel over a socket pair that only these two hold; nothing is read from the worker's stdout.
"""

from __future__ import annotations

import json
import os
import socket
import struct
from collections.abc import Sequence
from typing import Any

_HEADER = struct.Struct("<QI")
MAX_MESSAGE = 64 << 20
MAX_DESCRIPTORS = 16


class ProtocolError(Exception):
    """The other side closed the channel or sent something that is not a message."""


def send(channel: socket.socket, message: dict[str, Any], descriptors: Sequence[int] = ()) -> None:
    """Write one message; `descriptors` are duplicated into the other process.

    Raises OSError when the other side is gone.
    """
    body = json.dumps(message, allow_nan=False).encode()
    header = _HEADER.pack(len(body), len(descriptors))
    if descriptors:
        sent = socket.send_fds(channel, [header], list(descriptors))
        header = header[sent:]
    channel.sendall(header + body)


def receive(channel: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """Read one message. Raises ProtocolError at the end of the stream, TimeoutError after the channel's timeout."""
    header, descriptors = _receive_header(channel)
    length, count = _HEADER.unpack(header)
    if length > MAX_MESSAGE or count != len(descriptors):
        for descriptor in descriptors:
            os.close(descriptor)
        raise ProtocolError(f"a message of {length} bytes with {len(descriptors)} of {count} descriptors")
    message = json.loads(_receive_exactly(channel, length))
    if not isinstance(message, dict):
        raise ProtocolError("a message that is not an object")
    return message, descriptors


def _receive_header(channel: socket.socket) -> tuple[bytes, list[int]]:
    data, descriptors, _, _ = socket.recv_fds(channel, _HEADER.size, MAX_DESCRIPTORS)
    if not data:
        raise ProtocolError("the channel was closed")
    return data + _receive_exactly(channel, _HEADER.size - len(data)), list(descriptors)


def _receive_exactly(channel: socket.socket, length: int) -> bytes:
    parts = []
    while length:
        part = channel.recv(min(length, 1 << 20))
        if not part:
            raise ProtocolError("the channel was closed in the middle of a message")
        parts.append(part)
        length -= len(part)
    return b"".join(parts)
