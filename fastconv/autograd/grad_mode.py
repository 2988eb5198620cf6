"""Whether operations are recorded for differentiation: one switch per thread, on by default."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["enable_grad", "grad_mode", "is_grad_enabled", "no_grad", "set_grad_enabled"]

F = TypeVar("F", bound=Callable[..., Any])


class _GradMode(threading.local):
    enabled = True


grad_mode = _GradMode()


def is_grad_enabled() -> bool:
    """Whether operations in this thread are recorded for differentiation."""
    return grad_mode.enabled


class set_grad_enabled:  # noqa: N801  (PyTorch's name)
    """Switches recording on or off at once; as a context manager, until the block ends.

    Example:
        >>> import fastconv as fc
        >>> with fc.set_grad_enabled(False):
        ...     fc.is_grad_enabled()
        False
        >>> fc.is_grad_enabled()
        True
    """

    def __init__(self, mode: bool) -> None:
        self._before = grad_mode.enabled
        grad_mode.enabled = bool(mode)

    def __enter__(self) -> None:
        pass

    def __exit__(self, *exception: object) -> None:
        grad_mode.enabled = self._before


class _GradBlock:
    """A context manager and a decorator that sets the mode for its block."""

    _mode: bool

    def __enter__(self) -> None:
        self._before = grad_mode.enabled
        grad_mode.enabled = self._mode

    def __exit__(self, *exception: object) -> None:
        grad_mode.enabled = self._before

    def __call__(self, function: F) -> F:
        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            with type(self)():
                return function(*args, **kwargs)

        return wrapper  # type: ignore[return-value]


class no_grad(_GradBlock):  # noqa: N801  (PyTorch's name)
    """Nothing is recorded inside: `with fc.no_grad(): ...`, or `@fc.no_grad()` on a function.

    Example:
        >>> import fastconv as fc
        >>> x = fc.Tensor([1.0, 2.0], requires_grad=True)
        >>> with fc.no_grad():
        ...     (x * 2).requires_grad
        False
    """

    _mode = False


class enable_grad(_GradBlock):  # noqa: N801  (PyTorch's name)
    """Recording is on inside, also within `no_grad`."""

    _mode = True
