"""The quick part of two long scripts: damaged files for every reader, killed and resumed runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz_readers import readers
from tests.support import child_environment

ROOT = Path(__file__).resolve().parents[1]


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env=child_environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.mark.parametrize("reader", readers())
def test_damaged_files_are_read_or_refused(reader: str) -> None:
    """In a process of its own, whose memory is limited."""
    done = run("-m", "tests.fuzz_readers", "--count", "200", "--reader", reader)
    assert done.returncode == 0, done.stdout + done.stderr
    assert reader in done.stdout and "WRONG" not in done.stdout


def test_killed_and_resumed() -> None:
    script = ROOT / "bench" / "kill_resume.py"
    if not script.exists():
        pytest.skip("this script is in the repository, which is not here")
    done = run(str(script), "--kills", "2", "--seed", "5")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "nothing different" in done.stdout
