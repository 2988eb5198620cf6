"""Which digits a command works on, and saying so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..data.mnist import find, mnist
from ..errors import DownloadError

__all__ = ["Digits", "load_digits"]


@dataclass
class Digits:
    """Training and test sets with what to tell the user about them."""

    train: tuple[Any, Any]
    test: tuple[Any, Any]
    name: str  # "MNIST" or "the built-in digits"
    source: str  # a folder, or ""
    reason: str = ""  # why it is not MNIST, when that was not asked for
    argument: str | None = None  # what --data was

    @property
    def sizes(self) -> str:
        return f"{len(self.train[0]):,} training and {len(self.test[0]):,} test images"


def load_digits(argument: str | None) -> Digits:
    """The data set for `--data`: a folder, "digits", or None: MNIST, else what is built in.

    Raises:
        FileNotFoundError, CorruptFileError: as `data.mnist`; a folder that was named must be good.
    """
    if argument == "digits":
        return _built_in("", argument)
    try:
        train, test = mnist(argument)
    except DownloadError as error:
        return _built_in(str(error), argument)
    return Digits(train, test, name="MNIST", source=str(find(argument)), argument=argument)


def _built_in(reason: str, argument: str | None) -> Digits:
    from ..data.digits import digits

    if reason:
        print(reason)
        print(
            "MNIST could not be had: using the built-in digits, drawn by code, instead.", flush=True
        )
    train, test = digits()
    return Digits(train, test, "the built-in digits", "", reason, argument)


def announce(digits: Digits, verb: str) -> None:
    """Says plainly what is about to be used."""
    source = f" in {digits.source}" if digits.source else ""
    print(f"{verb} {digits.name}{source}: {digits.sizes}.", flush=True)
