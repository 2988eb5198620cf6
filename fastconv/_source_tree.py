"""Importing fastconv from the root of its own repository.

`python -m pytest` and `python -c ...` search the current folder first. In the repository that is
this folder: the Python sources without a compiled core. After `pip install .` the whole package,
core included, lies in site-packages, and that is the one to use: this folder's name then stands
for the installed package, so that Python and C++ come from the same place and tests test what was
installed.

Neither editable installs nor a core built into this folder come here.
"""

import sys
from importlib.machinery import PathFinder
from pathlib import Path


def use_installed_package() -> None:
    """Make `fastconv` search its submodules where it is installed.

    Raises:
        ImportError: it is installed nowhere.
    """
    here = Path(__file__).resolve().parent
    elsewhere = [entry for entry in sys.path if Path(entry or ".").resolve() != here.parent]
    spec = PathFinder.find_spec("fastconv", elsewhere)
    folders = list(spec.submodule_search_locations or []) if spec else []
    if PathFinder.find_spec("fastconv._core", folders) is None:
        raise ImportError(
            f"fastconv has no compiled core in {here} and is not installed: "
            "run `python -m pip install .` (or `-e .` to work on it) in the repository"
        ) from None
    sys.modules["fastconv"].__path__ = folders
