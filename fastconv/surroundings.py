"""What a recording depends on besides arrays: values that Python code reads and that change unseen.

Setting an attribute of a module is counted (autograd/changes.py). But a list, a dictionary or an
object among the attributes can change in place, and so can the globals, closures and class
attributes that the code of a network reads. `Surroundings` reads that code for names, beginning
with `forward`, and gives their values in a form that can be compared.
"""

from __future__ import annotations

import functools
import types
from collections import deque
from collections.abc import Iterable
from typing import Any

import numpy as np

from .autograd import Tensor
from .nn.module import Module

__all__ = ["Surroundings"]

MOST_VALUES = 2000  # that are compared before every call
MOST_BYTES = 1 << 14  # of a NumPy array among them
_UNSTEADY = {"random", "secrets", "time", "datetime"}  # modules whose functions change their mind
_PLAIN = (bool, int, float, complex, str, bytes, type(None), np.generic)
# What the package keeps in modules besides the attributes of their owner.
_OWN = {"training", "history", "_compiled", "_plan", "_plan_version", "_buffer_names"}


class _Same:
    """Compares an object by identity, and keeps it alive."""

    __slots__ = ("it",)
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, it: object) -> None:
        self.it = it

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.it is self.it


class TooMuchError(Exception):
    """More values than can be compared before every call."""


class Surroundings:
    """What the code of a network reads.

    Args:
        modules: those of the network.
        functions: what else runs, as the loss function.

    Attributes:
        reason: why it cannot be known whether they stay the same; None if it can.
    """

    def __init__(self, modules: Iterable[Module], functions: Iterable[object]) -> None:
        self.reason: str | None = None
        self._holders: list[Any] = list(modules)  # whose attributes the code may read
        self._cells: list[types.CellType] = []
        self._globals: list[tuple[dict[str, Any], str]] = []
        self._classes: list[type] = []
        self._names: set[str] = set()  # that the code reads, of whatever
        self._seen: set[int] = set()
        for module in list(self._holders):
            if _is_foreign(type(module)):
                self._read_class(type(module))
            if "forward" in vars(module):
                self._read(vars(module)["forward"])
        for function in functions:
            if not isinstance(function, Module):
                self._read(function)
        self._attributes = self._read_attributes()
        self._of_classes = [
            (kind, name)
            for kind in self._classes
            for name in sorted(self._names & vars(kind).keys())
            if not _methods_of(vars(kind)[name])
        ]

    def __bool__(self) -> bool:
        """Whether there is anything to watch, or to say."""
        values = self._attributes or self._globals or self._cells or self._of_classes
        return bool(values) or self.reason is not None

    def state(self) -> object:
        """The values now. Equal ones mean that a recording holds."""
        freezer = _Freezer(self._names)
        try:
            return (
                [freezer.freeze(vars(m).get(name)) for m, name in self._attributes],
                [freezer.freeze(values.get(name)) for values, name in self._globals],
                [freezer.freeze(_contents(cell)) for cell in self._cells],
                [freezer.freeze(vars(kind).get(name)) for kind, name in self._of_classes],
            )
        except TooMuchError as error:
            self.reason = str(error)
            return None

    # ---- reading code
    def _read_attributes(self) -> list[tuple[Any, str]]:
        """Attributes that the code reads. Functions among them read more, until nothing is new."""
        found: dict[tuple[int, str], tuple[Any, str]] = {}
        before = -1
        while len(found) + len(self._names) + len(self._holders) != before:
            before = len(found) + len(self._names) + len(self._holders)
            for holder in list(self._holders):
                for name in sorted(self._names & vars(holder).keys() - _OWN):
                    value = vars(holder)[name]
                    if (id(holder), name) not in found and not isinstance(value, (Module, Tensor)):
                        self._follow(value)
                        found[id(holder), name] = holder, name
        return list(found.values())

    def _read(self, function: object) -> None:
        """A function, and all that it calls by a name that can be followed."""
        if isinstance(function, functools.partial):
            for part in (function.func, *function.args, *function.keywords.values()):
                self._read(part)
            return
        if isinstance(function, types.MethodType):
            self._read_object(function.__self__)
            function = function.__func__
        function = getattr(function, "__wrapped__", function)
        if isinstance(function, (staticmethod, classmethod)):
            function = function.__func__
        if not isinstance(function, types.FunctionType):
            if not isinstance(function, (type, types.BuiltinFunctionType)):
                self._read_object(function)
            return
        if id(function) in self._seen or not _is_foreign(function):
            return
        self._seen.add(id(function))
        for cell in function.__closure__ or ():
            self._follow(_contents(cell))
            self._cells.append(cell)
        names = set(_names_of(function.__code__))
        self._names |= names
        for name in sorted(names & function.__globals__.keys()):
            value = function.__globals__[name]
            if isinstance(value, types.ModuleType):
                self._read_module(value, names)
            else:
                self._follow(value)
                if not isinstance(value, (type, types.FunctionType)) or _is_foreign(value):
                    self._globals.append((function.__globals__, name))
        for default in (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()):
            self._follow(default)

    def _read_module(self, module: types.ModuleType, names: set[str]) -> None:
        unsteady = module.__name__ in _UNSTEADY or (module is np and "random" in names)
        if unsteady and self.reason is None:
            self.reason = f"its code uses {module.__name__}, which gives new values in every call"
        if not _is_foreign(module):
            return
        for name in sorted(names & vars(module).keys()):
            if not isinstance(vars(module)[name], types.ModuleType):
                self._follow(vars(module)[name])
                self._globals.append((vars(module), name))

    def _read_class(self, kind: type) -> None:
        """The methods of a class that its call can reach, and what they read of it."""
        if id(kind) in self._seen:
            return
        self._seen.add(id(kind))
        bases = [base for base in kind.__mro__ if _is_foreign(base) and base is not object]
        self._classes += bases
        waiting = ["forward", "__call__"]
        done: set[str] = set()
        while waiting:
            name = waiting.pop()
            if name in done:
                continue
            done.add(name)
            for base in bases:
                value = vars(base).get(name)
                for method in _methods_of(value):
                    self._read(method)
                    waiting += _names_of(method.__code__)

    def _read_object(self, value: object) -> None:
        """Something that is called, or has a method that is."""
        if isinstance(value, Module) or not _is_foreign(type(value)):
            return
        if hasattr(value, "__dict__") and not any(value is holder for holder in self._holders):
            self._holders.append(value)
        self._read_class(type(value))

    def _follow(self, value: object) -> None:
        if isinstance(value, (types.FunctionType, types.MethodType, functools.partial)):
            self._read(value)
        elif isinstance(value, type):
            if _is_foreign(value):
                self._read_class(value)
        elif isinstance(value, (list, tuple, dict)):
            if id(value) not in self._seen and len(value) <= MOST_VALUES:
                self._seen.add(id(value))
                for inner in list(value.values() if isinstance(value, dict) else value):
                    self._follow(inner)
        elif not isinstance(value, (*_PLAIN, Tensor, np.ndarray)):
            self._read_object(value)


class _Freezer:
    """Values in a form that compares by value, up to a number of them.

    Args:
        names: which attributes of objects count.
    """

    def __init__(self, names: set[str]) -> None:
        self._names, self._left = names, MOST_VALUES
        self._open: set[int] = set()  # containers that the one at hand is in

    def freeze(self, value: Any) -> Any:
        self._left -= 1
        if self._left < 0:
            raise TooMuchError(f"its code reads more than {MOST_VALUES:,} values that may change")
        kind = type(value)
        if isinstance(value, _PLAIN):
            return kind, value
        if isinstance(value, Tensor):
            return _Same(value), _Same(value._array), value.requires_grad
        if isinstance(value, Module):
            inside = [(m, vars(m).values()) for m in value.modules()]
            return [
                (_Same(m), m.training, [self.freeze(t) for t in values if isinstance(t, Tensor)])
                for m, values in inside
            ]
        if isinstance(value, np.ndarray):
            if value.nbytes > MOST_BYTES or value.dtype.hasobject:
                raise TooMuchError(
                    f"its code reads a NumPy array of {value.nbytes:,} bytes, which may change: "
                    "make it a buffer (register_buffer)"
                )
            return value.shape, value.dtype, value.tobytes()
        if id(value) in self._open:
            return _Same(value)
        self._open.add(id(value))
        try:
            return self._freeze_container(value)
        finally:
            self._open.discard(id(value))

    def _freeze_container(self, value: Any) -> Any:
        kind = type(value)
        if isinstance(value, dict):
            items = list(value.items())
            return kind, [(self.freeze(k), self.freeze(v)) for k, v in items]
        if isinstance(value, (list, tuple, deque)):
            return kind, [self.freeze(v) for v in list(value)]
        if isinstance(value, (set, frozenset)):
            self._left -= len(value)
            return kind, frozenset(value)
        if isinstance(value, (type, types.FunctionType, types.ModuleType)) or not _has_fields(kind):
            return _Same(value)
        slots = {name for base in kind.__mro__ for name in _slots_of(base) if hasattr(value, name)}
        fields = {
            **{name: getattr(value, name) for name in slots},
            **getattr(value, "__dict__", {}),
        }
        read = sorted(self._names & fields.keys())
        return _Same(value), [(name, self.freeze(fields[name])) for name in read]


def _has_fields(kind: type) -> bool:
    """Whether its instances are made of attributes that Python code sets."""
    return _is_foreign(kind) or kind is types.SimpleNamespace


def _slots_of(kind: type) -> tuple[str, ...]:
    slots = vars(kind).get("__slots__", ())
    return (slots,) if isinstance(slots, str) else tuple(slots)


def _methods_of(value: object) -> list[types.FunctionType]:
    if isinstance(value, (staticmethod, classmethod)):
        value = value.__func__
    parts = (value.fget,) if isinstance(value, property) else (value,)
    wrapped: list[Any] = [getattr(p, "__wrapped__", p) for p in parts]
    return [p for p in wrapped if isinstance(p, types.FunctionType)]


def _names_of(code: types.CodeType) -> list[str]:
    """Names that code reads, of globals and of attributes; texts too, for getattr."""
    names = [*code.co_names, *(c for c in code.co_consts if isinstance(c, str))]
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            names += _names_of(inner)
    return names


def _is_foreign(thing: Any) -> bool:
    """Whether somebody wrote it who uses this package: no library, nothing of Python's own."""
    code = getattr(thing, "__code__", None)
    name = str(getattr(thing, "__module__", None) or getattr(thing, "__name__", ""))
    top = name.partition(".")[0]
    if top == __package__ or top in _standard_names():
        return False
    path = code.co_filename if code is not None else str(getattr(thing, "__file__", ""))
    return "site-packages" not in path and "dist-packages" not in path


@functools.lru_cache(maxsize=1)
def _standard_names() -> frozenset[str]:
    import sys

    return frozenset(sys.stdlib_module_names - {"__main__"}) | {"builtins", "numpy"}


def _contents(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not yet filled
        return None
