"""Kernel texts from files, as people have them: what is no text is said to be none before anybody parses it."""

from __future__ import annotations

from pathlib import Path

from kernelagent.errors import CallError

_MARKS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}
"""How files of other encodings begin."""


def read_text(file: Path) -> str:
    """The text of a file in UTF-8, with or without a byte order mark. Raises CallError for anything else, OSError."""
    data = file.read_bytes()
    if (encoding := _MARKS.get(data[:2])) is not None:
        raise CallError(
            f"{file} is a text in {encoding}, not in UTF-8", f"save it as UTF-8: iconv -f {encoding} {file}"
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise CallError(
            f"{file} is no text in UTF-8: byte {error.start} is 0x{data[error.start]:02x}",
            "give the file that has the kernel text",
        ) from None
    if "\0" in text:
        raise CallError(
            f"{file} is no text: it has a NUL character, at {text.index(chr(0))}",
            "give the file that has the kernel text",
        )
    return text


__all__ = ["read_text"]
