"""Damage to files: flipped bits, cut ends, wrong lengths, and JSON that says something else."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable
from typing import Any

__all__ = ["mutated"]

NUMBERS = (0, 1, -1, 2, 255, 65535, 2**31 - 1, 2**31, 2**32, 2**53, 2**63, 2**64, -(2**63), 10**40)
VALUES = (
    *NUMBERS,
    0.5,
    -0.0,
    1e308,
    1e-320,
    float("nan"),
    float("inf"),
    True,
    False,
    None,
    "",
    "0",
    "..",
    "../x",
    "/etc/passwd",
    "\x1b[31m",
    "\ud800",
    "é" * 300,
    [],
    {},
    [[]],
    [0] * 70,
    {"": None},
    {"$array": "x"},
)


def mutated(content: bytes, rng: random.Random) -> bytes:
    """The content with one to three mutations; JSON in it is found and mutated as such."""
    for _ in range(rng.choice((1, 1, 1, 1, 2, 3))):
        header, body = _split(content)
        if header is not None and rng.random() < 0.7:
            content = _framed(content, _mutated_json(header, rng), body, rng)
        else:
            content = rng.choice(BYTES)(bytearray(content), rng)
    return content


# ------------------------------------------------------------------------------------------ bytes


def _flip(content: bytearray, rng: random.Random) -> bytes:
    for _ in range(rng.choice((1, 1, 2, 8))):
        if content:
            content[_place(content, rng)] ^= 1 << rng.randrange(8)
    return bytes(content)


def _run(content: bytearray, rng: random.Random) -> bytes:
    at, count = _place(content, rng), rng.choice((1, 2, 4, 8, 64))
    filler = rng.choice((b"\0", b"\xff", b"{", b'"', b"9", rng.randbytes(1)))
    content[at : at + count] = filler * len(content[at : at + count])
    return bytes(content)


def _cut(content: bytearray, rng: random.Random) -> bytes:
    return bytes(content[: _place(content, rng)])


def _insert(content: bytearray, rng: random.Random) -> bytes:
    at = _place(content, rng)
    content[at:at] = rng.randbytes(rng.choice((1, 2, 8, 100)))
    return bytes(content)


def _remove(content: bytearray, rng: random.Random) -> bytes:
    at = _place(content, rng)
    del content[at : at + rng.choice((1, 2, 8, 100))]
    return bytes(content)


def _repeat(content: bytearray, rng: random.Random) -> bytes:
    at, count = _place(content, rng), rng.choice((1, 8, 64, 512))
    content[at:at] = content[at : at + count]
    return bytes(content)


def _length(content: bytearray, rng: random.Random) -> bytes:
    """An extreme number where lengths and sizes stand."""
    form = rng.choice(("<Q", ">Q", "<I", ">I", "<H", ">H"))
    size = struct.calcsize(form)
    at = rng.choice((0, 4, 8, _place(content, rng)))
    value = rng.choice((*NUMBERS, len(content), len(content) - 8, len(content) + 1))
    content[at : at + size] = struct.pack(form, value % 256**size)
    return bytes(content)


BYTES: tuple[Callable[[bytearray, random.Random], bytes], ...] = (
    _flip,
    _run,
    _cut,
    _insert,
    _remove,
    _repeat,
    _length,
)


def _place(content: bytearray, rng: random.Random) -> int:
    """Half of the time near the beginning, where headers are."""
    if not content:
        return 0
    return rng.randrange(min(len(content), rng.choice((16, 256, 10**9, 10**9))))


# ------------------------------------------------------------------------------------------- JSON


def _split(content: bytes) -> tuple[Any, bytes]:
    """The JSON at the beginning, as in a text or behind 8 bytes of length; None: there is none."""
    for begin, end in ((0, len(content)), (8, 8 + int.from_bytes(content[:8], "little"))):
        if content[begin : begin + 1] in (b"{", b"[") and end <= len(content):
            try:
                return json.loads(content[begin:end]), content[end:]
            except (ValueError, RecursionError):
                pass
    return None, content


def _framed(before: bytes, header: Any, body: bytes, rng: random.Random) -> bytes:
    if header is _DEEP:
        text = b"[" * 100_000
    elif header is _TWICE:
        text = b'{"__metadata__":{},"__metadata__":{}}'
    else:
        text = json.dumps(header).encode()
    if before[:1] in (b"{", b"["):
        return text
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + body


_DEEP, _TWICE = object(), object()


def _mutated_json(value: Any, rng: random.Random) -> Any:
    """One place in it changed: any depth, also inside texts that are JSON themselves."""
    if rng.random() < 0.01:
        return rng.choice((_DEEP, _TWICE))
    return _changed(value, rng)


def _holds_json(value: Any) -> bool:
    """Whether it is a text of JSON, or has one right inside."""
    inner = [value, *(value.values() if isinstance(value, dict) else ())]
    return any(isinstance(text, str) and text[:1] in ("{", "[") for text in inner)


def _changed(value: Any, rng: random.Random) -> Any:
    if isinstance(value, dict) and value:
        key = rng.choice(list(value))
        rich = [name for name, inner in value.items() if _holds_json(inner)]
        if rich and rng.random() < 0.7:  # few among the tensors of a header
            key = rng.choice(rich)
        chance = rng.random()
        if chance < 0.88:
            return {**value, key: _changed(value[key], rng)}
        if chance < 0.94:
            return {k: v for k, v in value.items() if k != key}
        new = rng.choice((key + "x", "path", "__class__", "", "0", "-1", "params", "lr", "_run"))
        return {**value, new: rng.choice((value[key], rng.choice(VALUES)))}
    if isinstance(value, list) and value and rng.random() < 0.9:
        at = rng.randrange(len(value))
        chance = rng.random()
        if chance < 0.8:
            return [*value[:at], _changed(value[at], rng), *value[at + 1 :]]
        if chance < 0.85:
            return [*value[:at], *value[at + 1 :]]
        return [*value, value[at]]
    if isinstance(value, str) and value[:1] in ("{", "[") and rng.random() < 0.97:
        try:
            return json.dumps(_changed(json.loads(value), rng))
        except (ValueError, RecursionError):
            pass
    if isinstance(value, (int, float)) and not isinstance(value, bool) and rng.random() < 0.4:
        return rng.choice((value + 1, value - 1, -value, value * 1000, float(value), str(value)))
    return rng.choice(VALUES)
