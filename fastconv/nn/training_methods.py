"""compile, fit, evaluate, predict, report, summary: Keras's methods, on every Module.

They are the functions of the same names in `fastconv.train`, with the module as first argument.
`fastconv.train` builds on this package and on the data readers, so each method is looked up when it
is called: a program that only runs networks never loads it.
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
    """Functions of `fastconv.train` as methods of a Module."""

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
