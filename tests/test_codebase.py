"""The plan of the house, kept by a test: who may know whom, sizes, what must not be there."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CSRC, PACKAGE = ROOT / "csrc", ROOT / "fastconv"
C_SUFFIXES = {".h", ".cpp", ".cu", ".cuh"}

if not CSRC.is_dir():
    pytest.skip("these tests read the repository, which is not here", allow_module_level=True)


def tracked() -> list[Path]:
    """The project's own text files, as git knows them."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [path for name in listed.stdout.splitlines() if (path := ROOT / name).is_file()]


def c_sources(folder: str = ".") -> list[Path]:
    return sorted(p for p in (CSRC / folder).rglob("*") if p.suffix in C_SUFFIXES)


def includes(path: Path) -> Iterator[str]:
    """What a file includes: project headers by their path under csrc, others in angle brackets."""
    for quoted, system in re.findall(
        r'^\s*#\s*include\s+(?:"([^"]+)"|(<[^>]+>))', path.read_text(), re.M
    ):
        if quoted and not (CSRC / quoted).exists():
            quoted = str((path.parent / quoted).resolve().relative_to(CSRC))
        yield quoted or system


def without_comments(text: str) -> str:
    return re.sub(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"', "", text, flags=re.S)


# ------------------------------------------------------------------------------ csrc: dependencies

# Each room may include itself and these.
MAY_INCLUDE = {
    "core": set(),
    "contract": {"core"},
    "cpu": {"core", "contract"},
    "cuda": {"core", "contract"},
    "program": {"core", "contract"},
    "ops": {"core", "contract", "program"},
    "bind": {"core", "contract", "ops", "program"},
}


@pytest.mark.parametrize("room", MAY_INCLUDE)
def test_rooms_know_only_the_rooms_below(room: str) -> None:
    for path in c_sources(room):
        allowed = MAY_INCLUDE[room] | {room}
        if path.name == "bind_runtime.cpp":  # threads, instruction sets, memory
            allowed |= {"cpu", "cuda/cuda.h"}
        for header in includes(path):
            if not header.startswith("<"):
                known = header.split("/")[0] in allowed or header in allowed
                assert known, f"{path.relative_to(ROOT)} includes {header}"


def test_kernels_include_the_contract_simd_and_c_headers_only() -> None:
    """No standard library templates: an AVX copy of one could become everybody's (numpy#25274)."""
    kernels = c_sources("cpu/kernels")
    assert len(kernels) >= 5
    c_headers = {
        "<immintrin.h>",
        "<cassert>",
        "<cstddef>",
        "<cstdint>",
        "<cstring>",
        "<math.h>",
        "<float.h>",
    }
    for path in [*kernels, *CSRC.glob("cpu/simd*.h")]:
        for header in includes(path):
            near = header.startswith(("cpu/kernels", "cpu/simd", "cpu/tiles.h"))
            near = near or header in ("contract/functions.h", "contract/optimizer_rules.h")
            assert near or header in c_headers, f"{path.relative_to(ROOT)} includes {header}"
        if path.suffix == ".cpp":
            assert "FASTCONV_ISA" in path.read_text(), f"{path.name} is not in its set's namespace"
        assert not re.search(
            r"\bstd::(?!mem|size_t|u?int\d)", without_comments(path.read_text())
        ), path.name


def test_only_bind_knows_pybind11() -> None:
    for path in c_sources():
        if path.parent.name != "bind" and path.name != "module.cpp":
            assert "pybind11" not in without_comments(path.read_text()), path
            assert not any("pybind11" in h or "Python.h" in h for h in includes(path)), path


def test_only_cpu_uses_intrinsics() -> None:
    """The thread pool may read and set the floating-point mode, and pause while it spins."""
    for path in c_sources():
        if path.relative_to(CSRC).parts[0] == "cpu":
            continue
        found = set(re.findall(r"\b_mm\d*_\w+|\b__m\d+\w*", path.read_text()))
        if path.name == "thread_pool.cpp":
            found -= {"_mm_pause", "_mm_getcsr", "_mm_setcsr"}
        assert not found, f"{path.relative_to(ROOT)}: {found}"


def test_only_cuda_includes_cuda() -> None:
    for path in c_sources():
        if path.relative_to(CSRC).parts[0] != "cuda":
            assert not any(h.startswith("<cuda") for h in includes(path)), path


def test_csrc_never_prints_exits_or_aborts() -> None:
    calls = "printf|fprintf|puts|perror|abort|exit|_exit|quick_exit|terminate"
    banned = rf"std::(cout|cerr|clog)\b|\b({calls})\s*\("
    for path in c_sources():
        found = re.search(banned, without_comments(path.read_text()))
        assert not found, f"{path.relative_to(ROOT)}: {found.group() if found else ''}"


def test_module_only_registers() -> None:
    assert len((CSRC / "module.cpp").read_text().splitlines()) <= 60


# --------------------------------------------------------------------------- fastconv: dependencies

# Rooms in order: each may import those above it here, at the top of a file or in a function.
ORDER = [
    ["_core", "_source_tree", "locks", "progress_bar", "untrusted"],
    ["atomic", "errors", "interrupt", "random"],
    ["autograd"],
    ["io", "download", "settings"],
    ["functional"],
    ["nn", "optim"],
    ["surroundings"],
    ["data", "program"],
    ["models"],
    ["train"],
    ["plot"],
    ["benchmark"],
    ["cli"],
    ["__main__"],
]
LEVEL = {name: level for level, names in enumerate(ORDER) for name in names}

# The same of the modules of a room.
INSIDE = {
    "autograd": [
        ["changes", "grad_mode", "conversion"],
        ["tape"],
        ["pending", "shaping"],
        ["operands"],
        ["arithmetic", "elementwise", "reductions", "in_place"],
        ["numpy_functions"],
        ["tensor"],
        ["creation"],
    ],
}


def imports(path: Path) -> Iterator[str]:
    """Dotted names in fastconv of all that a file imports, anywhere; types do not count."""
    tree = ast.parse(path.read_text())
    package = ["fastconv", *path.relative_to(PACKAGE).parent.parts]
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            stem = ".".join([*base, *([node.module] if node.module else [])])
            names = [f"{stem}.{alias.name}" for alias in node.names]
        yield from (
            name.removeprefix("fastconv.") for name in names if name.startswith("fastconv.")
        )


def room_of(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py").removesuffix(".pyi")


def python_sources() -> list[Path]:
    return sorted(p for p in PACKAGE.rglob("*.py") if "peers" not in p.parts)


def test_python_rooms_import_downwards() -> None:
    """So there is no circle; and nothing imports cli but __main__."""
    for path in python_sources():
        room = room_of(path)
        if room == "__init__":
            continue
        assert room in LEVEL, f"{path.relative_to(ROOT)}: name its place in ORDER"
        for name in imports(path):
            other = name.split(".")[0]
            if other in LEVEL and other != room:
                fine = LEVEL[other] < LEVEL[room]
                assert fine, f"{path.relative_to(ROOT)} ({room}) imports {name}"


@pytest.mark.parametrize("room", INSIDE)
def test_modules_of_a_room_import_downwards(room: str) -> None:
    level = {name: level for level, names in enumerate(INSIDE[room]) for name in names}
    for path in sorted((PACKAGE / room).glob("*.py")):
        if path.stem == "__init__":
            continue
        assert path.stem in level, f"{path.relative_to(ROOT)}: name its place in INSIDE"
        for name in imports(path):
            first, *rest = name.split(".")
            if first == room:
                assert rest[0] in level, f"{path.relative_to(ROOT)} imports {name}"
                fine = level[rest[0]] < level[path.stem]
                assert fine, f"{path.relative_to(ROOT)} imports {name}"


def test_no_circles_between_modules() -> None:
    """Of the whole package, with imports in functions; a package is above the modules in it."""
    modules = {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): path
        for path in PACKAGE.rglob("*.py")
        if path.parent != PACKAGE or path.stem != "__init__"
    }

    def imported(module: str) -> set[str]:
        found = set()
        for name in imports(modules[module]):
            while name and name not in modules:
                name = name.rpartition(".")[0]
            found.add(name)
        return found - {"", module}

    below = {module: imported(module) for module in modules}
    while leaves := {module for module, known in below.items() if not known}:
        below = {m: known - leaves for m, known in below.items() if m not in leaves}
    assert not below, f"modules that import each other, or build on such: {sorted(below)}"


def test_who_imports_by_name() -> None:
    """The package's lazy attributes, the commands, the workers of benchmarks, and the methods of
    every Module that `train`, a room above, provides: nobody else."""
    found = {
        str(path.relative_to(PACKAGE))
        for path in python_sources()
        if "import_module" in path.read_text()
    }
    commands = {"cli/parser.py", "benchmark/remote.py"}
    assert found == {"__init__.py", "nn/training_methods.py"} | commands


def test_tests_and_bench_are_not_imported() -> None:
    for path in python_sources():
        assert not re.search(r"^\s*(from|import) (tests|bench)\b", path.read_text(), re.M), path


# ----------------------------------------------------------------------------------- the whole tree


def test_files_are_one_room_each() -> None:
    for path in tracked():
        if path.suffix in C_SUFFIXES | {".py", ".pyi"}:
            lines = len(path.read_text().splitlines())
            assert lines <= 500, f"{path.relative_to(ROOT)} has {lines} lines"


def test_versions_agree() -> None:
    import fastconv

    project = (ROOT / "pyproject.toml").read_text()
    (version,) = re.findall(r'^version = "(.+)"$', project, re.M)
    assert fastconv.__version__ == version
    changelog = ROOT / "CHANGELOG.md"
    assert version in changelog.read_text()


def test_no_machine_paths_and_no_promises() -> None:
    """Absolute paths of somebody's machine, and work put off."""
    machine = re.compile(r"(?<![\w.-])/(work|root|home/\w+|Users/\w+|tmp/\w+)/")
    later = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X)\b")
    for path in tracked():
        if path.suffix in C_SUFFIXES | {".py", ".pyi", ".md", ".toml", ".txt", ".cmake", ".sh", ""}:
            text = path.read_text(errors="replace")
            for pattern in (machine, later):
                found = pattern.search(text)
                assert not found, f"{path.relative_to(ROOT)}: {found.group() if found else ''}"


def test_text_files_are_plain() -> None:
    """No tabs, no trailing blanks, a newline at the end, at most 100 columns in C++."""
    for path in tracked():
        if path.suffix in C_SUFFIXES | {".py", ".pyi"}:
            text = path.read_text()
            assert text.endswith("\n") or not text, path
            assert "\t" not in text, path
            for number, line in enumerate(text.splitlines(), 1):
                assert line == line.rstrip(), f"{path.relative_to(ROOT)}:{number}"
                if path.suffix in C_SUFFIXES:
                    assert len(line) <= 100, (
                        f"{path.relative_to(ROOT)}:{number} has {len(line)} columns"
                    )


def test_examples_in_docstrings_run() -> None:
    """Every >>> in the package, as written."""
    import doctest
    import importlib

    tried = 0
    for path in python_sources():
        parts = path.relative_to(ROOT).with_suffix("").parts
        if ">>>" not in path.read_text() or "cli" in parts:
            continue
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        result = doctest.testmod(importlib.import_module(name))
        assert not result.failed, name
        tried += result.attempted
    assert tried > 50


GUIDES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "bench/README.md")),
    *sorted(ROOT.glob("docs/*.md")),
    *sorted(ROOT.glob("docs/design/*.md")),
    CSRC / "README.md",
    CSRC / "cpu" / "README.md",
]
MOST_LINES = {"csrc/README.md": 150, "csrc/cpu/README.md": 200}
DESIGN_LINES, README_ROWS = 120, 8


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: str(path.relative_to(ROOT)))
def test_documented_files_exist(guide: Path) -> None:
    """Paths in code spans lead to files; in the maps of csrc every file that is named."""
    text = guide.read_text()
    for span in re.findall(r"`((?:csrc|fastconv|tests|bench|docs)/[\w./*-]*)`", text):
        assert any(ROOT.glob(span.rstrip("/"))), f"{guide.name} names {span}"
    if guide.is_relative_to(CSRC):
        for name in re.findall(r"(?<![\w./])[\w/]+\.(?:h|cpp|cu|cmake|py|pyi|md)\b", text):
            if (ROOT / name).exists():
                continue
            assert any(CSRC.rglob(name)), f"{guide.relative_to(ROOT)} names {name}"


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_of_guides_lead_somewhere(guide: Path) -> None:
    """Files and headings."""
    for target, heading in re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)", guide.read_text()):
        if "://" in target:
            continue
        path = guide.parent / target if target else guide
        assert path.exists(), f"{guide.name}: {target}"
        if heading:
            titles = re.findall(r"^#+ (.*)$", path.read_text(), re.M)
            known = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
            assert heading in known, f"{guide.name}: {target}#{heading}"


def test_guides_stay_short() -> None:
    """The maps, a page for each idea, and a table on the first screen that is read at a glance."""
    limits = MOST_LINES | {
        str(path.relative_to(ROOT)): DESIGN_LINES for path in ROOT.glob("docs/design/*.md")
    }
    for name, most in limits.items():
        lines = len((ROOT / name).read_text().splitlines())
        assert lines <= most, f"{name} has {lines} lines, {most} are its limit"
    for table in re.findall(r"(?:^\|.*\n)+", (ROOT / "README.md").read_text(), re.M):
        rows = table.count("\n") - 2
        assert rows <= README_ROWS, f"README.md has a table of {rows} rows"
