"""Counts of changes, for what is decided once: plans of containers, recorded programs."""

from __future__ import annotations

__all__ = ["changes"]


class _Changes:
    count = 0  # of all these
    structure = 0  # of any module: its submodules, hooks, forward
    attributes = 0  # the same and other attributes but `training`

    def of_structure(self) -> None:
        self.structure += 1
        self.of_attribute()

    def of_attribute(self) -> None:
        self.attributes += 1
        self.of_state()

    def of_state(self) -> None:
        """`training` of a module, which array a tensor holds, whether it requires a gradient."""
        self.count += 1


changes = _Changes()
