"""Version counters: plans of containers and recorded programs compare them to stay valid."""

from __future__ import annotations

import itertools

__all__ = ["changes"]


class _Changes:
    """Each counter takes a new number after a change; no number is used twice, in any thread."""

    count = 0  # any change below
    structure = 0  # submodules, hooks or forward of any module
    attributes = 0  # structure, and any other attribute but `training`
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
