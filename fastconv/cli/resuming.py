"""--resume: compares the state of an interrupted run with the command line."""

from __future__ import annotations

import argparse
import zlib
from collections.abc import Callable
from dataclasses import fields
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import CorruptFileError

if TYPE_CHECKING:
    from ..train import Checkpoint
    from .datasets import Dataset

__all__ = ["check_data", "fingerprint", "given_fields", "resumed_fields"]

T = TypeVar("T")

# The types that a saved value may have, by the type of the field's default.
_ALIKE: dict[type, tuple[type, ...]] = {
    float: (float, int),
    type(None): (float, int, type(None)),
}


def given_fields(kind: Any, args: argparse.Namespace) -> dict[str, Any]:
    """The fields of a dataclass that the command line sets."""
    given = {field.name: getattr(args, field.name, None) for field in fields(kind)}
    return {name: value for name, value in given.items() if value not in (None, [])}


def resumed_fields(kind: Callable[..., T], saved: Any, args: argparse.Namespace, command: str) -> T:
    """The settings that a command saved with its run; the command line may repeat, not change them.

    Args:
        kind: a dataclass of plain values.
        saved: its fields in the file.
        args: the command line.
        command: its first word.

    Raises:
        ValueError: the command line sets another value, which the message names; or another command
            or a callback wrote the file.
        CorruptFileError: a value has the wrong type.
    """
    if not isinstance(saved, dict):
        raise ValueError(
            f"[resume] {args.resume} is not of `fastconv {command}`: a checkpoint of "
            "train.ModelCheckpoint goes on with model.fit(..., resume=FILE), and its weights alone "
            f"are read by `fastconv evaluate {args.model} --weights FILE`"
        )
    known = vars(kind(model=""))
    for name, value in saved.items():
        default = known.get(name, value)
        alike = type(value) in _ALIKE.get(type(default), (type(default),))
        texts = not isinstance(value, list) or all(isinstance(text, str) for text in value)
        if name not in known or not (alike and texts):
            raise CorruptFileError(f"[resume] {args.resume}: damaged, {name!a} is {value!a}")
    settings = kind(**{"model": args.model, **saved})
    for name, value in given_fields(kind, args).items():
        had = getattr(settings, name)
        if had != value:
            flag = "MODEL" if name == "model" else "--" + name.replace("_", "-")
            raise ValueError(f"[resume] {flag}: the interrupted run has {had}, not {value}")
    return settings


def fingerprint(dataset: Dataset) -> str:
    """Identifies the data of a run."""
    labels = zlib.crc32(dataset.labels("train").tobytes())
    return f"{dataset.name}, labels {labels:08x}"


def check_data(resumed: Checkpoint | None, data: str) -> None:
    """Raises ValueError if an interrupted run had other data; `data`: their fingerprint."""
    if resumed is not None and resumed.extra.get("data") != data:
        raise ValueError(
            f"[resume] data: the interrupted run has {resumed.extra.get('data')}, this is {data}"
        )
