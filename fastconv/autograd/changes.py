"""Counts of changes, for what is decided once: plans of containers, recorded programs."""

from __future__ import annotations

import itertools

__all__ = ["changes"]


class _Changes:
    """Numbers that differ after a change, each given once, whichever threads change things."""

    count = 0  # after all these
    structure = 0  # of any module: its submodules, hooks, forward
    attributes = 0  # the same and other attributes but `training`
    _numbers = itertools.count(1)

    def of_structure(self) -> None:
        self.structure = next(self._numbers)
        self.of_attribute()

    def of_attribute(self) -> None:
        self.attributes = next(self._numbers)
        self.of_state()

    def of_state(self) -> None:
        """`training` of a module, which array a tensor holds, whether it requires a gradient."""
        self.count = next(self._numbers)


changes = _Changes()
