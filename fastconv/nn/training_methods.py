"""compile, fit, evaluate, predict, report, summary: Keras's methods, on every Module.

They are the functions of `fastconv.train` of the same names, with the module as first argument.
That room lies above this one, knows it, and imports the data readers too: so each is looked up
when it is called, and a program that only runs networks never loads it.
"""

from __future__ import annotations

import importlib
import types
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .. import train

__all__ = ["TrainingMethods"]

_HOME = "fastconv.train"


class _Late:
    """A function of `fastconv.train` as a method, imported at its first use."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, module: Any, owner: type | None = None) -> Any:
        function = getattr(importlib.import_module(_HOME), self._name)
        return function if module is None else types.MethodType(function, module)


class TrainingMethods:
    """The verbs, and what `fit` leaves behind."""

    if TYPE_CHECKING:
        history: train.History  # of the last fit
        compile = train.compile
        fit = train.fit
        evaluate = train.evaluate
        predict = train.predict
        report = train.report
        summary = train.summary
    else:
        compile = _Late()
        fit = _Late()
        evaluate = _Late()
        predict = _Late()
        report = _Late()
        summary = _Late()
