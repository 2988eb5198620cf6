"""What --resume finds in the file of an interrupted run, compared with what the command says."""

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

# The types of saved values, by the type of what a field has when nothing was said.
_ALIKE: dict[type, tuple[type, ...]] = {
    float: (float, int),
    type(None): (float, int, type(None)),
}


def given_fields(kind: Any, args: argparse.Namespace) -> dict[str, Any]:
    """Those fields of a dataclass that the command line gives."""
    given = {field.name: getattr(args, field.name, None) for field in fields(kind)}
    return {name: value for name, value in given.items() if value not in (None, [])}


def resumed_fields(kind: Callable[..., T], saved: Any, args: argparse.Namespace, command: str) -> T:
    """What a command wrote into the state of its run, which the command line may repeat.

    Args:
        kind: a dataclass of plain values.
        saved: its fields in the file.
        args: the command line.
        command: its first word.

    Raises:
        ValueError: the command line says something else, and the message names what; or another
            command wrote the file, or a callback.
        CorruptFileError: a value is of another type than those of the dataclass.
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
    """Tells the data of a run from others."""
    labels = zlib.crc32(dataset.labels("train").tobytes())
    return f"{dataset.name}, labels {labels:08x}"


def check_data(resumed: Checkpoint | None, data: str) -> None:
    """Raises ValueError where an interrupted run had other data; `data` is a fingerprint."""
    if resumed is not None and resumed.extra.get("data") != data:
        raise ValueError(
            f"[resume] data: the interrupted run has {resumed.extra.get('data')}, this is {data}"
        )
