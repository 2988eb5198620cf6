"""The guides: their programs run, their commands parse, their links lead somewhere.

A block of Python is run in a process's stead: all blocks of one guide share their names, in a
folder of its own. `<!-- needs NAME -->` in front of a block: only where $FASTCONV_DATA has NAME,
of which it then sees a small part. `<!-- long -->`: it is compiled, but takes too long to run.
MNIST is a small set of other digits.
"""

from __future__ import annotations

import os
import re
import shlex
import warnings
from pathlib import Path
from typing import Any

import pytest

import fastconv as fc

ROOT = Path(__file__).resolve().parents[1]
GUIDES = sorted((ROOT / "docs").glob("*.md"))
BLOCK = re.compile(r"^(?:<!-- (?P<mark>[^\n]*) -->\n)?```python\n(?P<code>.*?)^```$", re.M | re.S)
PICTURES = 24  # of each class and split

if not GUIDES:
    pytest.skip("the guides are not here", allow_module_level=True)


def names(paths: list[Path]) -> list[str]:
    return [path.name for path in paths]


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a few of the cats and dogs, and the photographs, under the guides' names.

    What the guides take for MNIST is a small set of the built-in digits.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(fc.data, "mnist", lambda: fc.data.digits(1_000, 200, seed=0))
    root = os.environ.get("FASTCONV_DATA")
    if root is not None and (source := Path(root) / "cats-dogs").is_dir():
        for folder in sorted(path for path in source.glob("*/*") if path.is_dir()):
            place = tmp_path / "cats-dogs" / folder.parent.name / folder.name
            place.mkdir(parents=True)
            for picture in sorted(folder.iterdir())[:PICTURES]:
                (place / picture.name).symlink_to(picture)
    if root is not None and (Path(root) / "photos").is_dir():
        (tmp_path / "photos").symlink_to(Path(root) / "photos")
    return tmp_path


def lacks(mark: str) -> str:
    """What a block needs and this machine does not have."""
    root = os.environ.get("FASTCONV_DATA", "")
    wanted = mark.removeprefix("needs ").replace(",", " ").split()
    for name in wanted:
        if name == "matplotlib":
            pytest.importorskip("matplotlib")
        elif not root or not (Path(root) / name).exists():
            return name
    return ""


@pytest.mark.parametrize("guide", GUIDES, ids=names(GUIDES))
def test_programs_run(guide: Path, workplace: Path) -> None:
    fc.manual_seed(0)
    space: dict[str, Any] = {"__name__": "__main__"}
    text = guide.read_text()
    for found in BLOCK.finditer(text):
        mark, code = found["mark"] or "", found["code"]
        line = text[: found.start("code")].count("\n")
        program = compile("\n" * line + code, str(guide), "exec")
        if mark == "long" or (mark.startswith("needs") and lacks(mark)):
            continue
        assert mark in ("", "long") or mark.startswith("needs"), f"{guide.name}: {mark}"
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            exec(program, space)


@pytest.mark.parametrize("guide", [*GUIDES, ROOT / "README.md"], ids=lambda path: path.name)
def test_commands_parse(guide: Path) -> None:
    """Every `fastconv ...` line of a block of commands is one that the parser takes."""
    from fastconv.cli.parser import make_parser

    for block in re.findall(r"^```(?:console|sh)\n(.*?)^```$", guide.read_text(), re.M | re.S):
        for line in block.replace("\\\n", " ").splitlines():
            command = line.removeprefix("$ ")
            if line.startswith("$ fastconv "):
                words = shlex.split(command)[1:]
                if words[0] != "bench":
                    make_parser(words).parse_args(words)


@pytest.mark.parametrize("guide", GUIDES, ids=names(GUIDES))
def test_links_lead_somewhere(guide: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", guide.read_text()):
        if "://" not in target:
            assert (guide.parent / target).exists(), f"{guide.name}: {target}"
