"""The tools that compare two trees: tests/bits.py and bench/instructions.py see what differs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import fastconv as fc
from fastconv import functional as F
from tests import bits, bits_layers, bits_networks, bits_operations

instructions = pytest.importorskip("bench.instructions", reason="bench/ is not here")


# -------------------------------------------------------------------------------------------- bits
def test_digests_see_type_shape_and_every_bit() -> None:
    values = [
        np.zeros(4, np.float32),
        -np.zeros(4, np.float32),
        np.zeros((2, 2), np.float32),
        np.zeros(4, np.int32),
        np.full(4, np.nan, np.float32),
        np.nextafter(np.zeros(4, np.float32), np.float32(1)),
    ]
    assert len({bits.digest(value) for value in values}) == len(values)
    assert bits.digest(fc.Tensor([1.0, 2.0])) == bits.digest(np.array([1, 2], np.float32))


def test_nans_are_one_whatever_their_payload() -> None:
    words = np.array([0x7FC00000, 0xFFC00000, 0x7FC00123], np.uint32)
    one, *others = (bits.digest(word.view(np.float32)) for word in words)
    assert others == [one, one]


def test_differences_are_grouped_by_operation() -> None:
    old = {"avx2": {"relu/a": "0", "relu/b": "1", "cat/a": "2", "cat/b": "3"}}
    new = {"avx2": {"relu/a": "4", "relu/c": "1", "cat/a": "2", "cat/b": "3"}}
    changed = ["relu/a", "relu/b (missing)", "relu/c (new)"]
    assert bits.differing(old, new) == {"avx2 relu": changed}
    assert bits.differing(new, new) == {}


def test_every_function_is_hashed() -> None:
    rooms = (bits_layers, bits_operations, bits_networks)
    names = {name.split("/")[0] for room in rooms for name, _ in room.subjects()}
    assert set(F.__all__) <= names


def test_an_operation_is_hashed_in_each_way() -> None:
    hashes, unsteady = bits.compute("^relu6/2d/n17/")
    ways = {name.split("/")[3] for name in hashes}
    assert ways == {"eager", "middle", "inference", "numpy", "recorded", "step"}
    assert hashes["relu6/2d/n17/recorded/recorded"] == "yes"
    assert not unsteady


# ------------------------------------------------------------------------------------ instructions
def test_tables_are_read_as_they_are_written() -> None:
    table = {
        "GNU 12.2.0": {"lenet.c1, 28 px, batch 16: forward": 918931, "short": 7},
        "GNU 12.2.0, Python 3.11.7": {"Adam step of lenet5": 298929},
    }
    assert instructions.read_table(instructions.write_table(table)) == table


def test_the_stored_table_can_be_read() -> None:
    table = instructions.read_table(instructions.TABLE.read_text())
    assert len(table) >= 2
    assert all(count > 0 for rows in table.values() for count in rows.values())


def test_dumps_of_callgrind(tmp_path: Path) -> None:
    dump = tmp_path / "python.out.12"
    dump.write_text(
        "version: 1\npart: 12\n\ndesc: Timerange: Basic block 0 - 9\n"
        "desc: Trigger: Client Request: Loader, batch of 1, uint8\n\nevents: Ir\n\n"
        "fn=(1) take\n12 500\n\ntotals: 1234\n"
    )
    assert instructions.read_dump(dump) == ("Loader, batch of 1, uint8", 1234)
    assert instructions.number(dump) == 12


def test_gains_differ_as_losses_do() -> None:
    stored = {"core": {"same": 1000, "gain": 1000, "loss": 1000, "gone": 5}}
    counted = {"core": {"same": 1019, "gain": 970, "loss": 1030, "born": 6}}
    lines, differing = instructions.compare(stored, counted)
    said = {line.split()[0]: line.split()[-1] for line in lines if line}
    assert differing == 4
    assert said["gain"] == "fewer"
    assert said["loss"] == "more"
    assert said["gone"] == "gone"
    assert said["born"] == "new"
    assert said["same"] == "1.019"


def test_sections_that_are_not_stored_are_not_judged() -> None:
    lines, differing = instructions.compare({"GNU 12": {"a": 1}}, {"GNU 13": {"a": 2}})
    assert differing == 0
    assert "not judged" in lines[1]
