"""Names of classes that are a published file: where they are found, when they are fetched."""

from __future__ import annotations

import hashlib
import itertools
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastconv as fc
from fastconv import models
from fastconv.cli import main
from tests.server import Server

NAMES = ["car", "doll", "top"]
TEXT = "\n".join(NAMES).encode()  # without a last newline, as some are published


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A network and the names of its classes on a server, a registry of one's own, no cache yet."""
    pytest.importorskip("pooch")
    for name in ("http_proxy", "HTTP_PROXY", "FASTCONV_DATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("FASTCONV_WEIGHTS", str(tmp_path / "own" / "registry.json"))
    (tmp_path / "own").mkdir()
    model = models.cifar_resnet20(num_classes=3, width=2)
    fc.save(model.state_dict(), tmp_path / "toys.safetensors")
    weights = (tmp_path / "toys.safetensors").read_bytes()
    with Server({"model.safetensors": weights, "toys.txt": TEXT}) as served:
        entry = {
            "architecture": "cifar_resnet20",
            "name": "toys",
            "arguments": {"num_classes": 3, "width": 2},
            "files": {"model.safetensors": hashlib.sha256(weights).hexdigest()},
            "mirrors": [served.url],
            "preprocessing": {"size": 32, "resize": 40},
            "classes": "toys",
        }
        names = {
            "files": {"toys.txt": hashlib.sha256(TEXT).hexdigest()},
            "mirrors": [served.url],
        }
        register(tmp_path, entry, {"toys": names})
        yield served


def register(folder: Path, entry: dict[str, Any], classes: Any) -> None:
    text = json.dumps({"weights": [entry], "classes": classes})
    (folder / "own" / "registry.json").write_text(text)


def registered(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    registry = json.loads((folder / "own" / "registry.json").read_text())
    return registry["weights"][0], registry["classes"]


def asked(server: Server) -> list[str]:
    return [name for name, _ in server.requests]


def test_a_name_brings_the_names(server: Server, tmp_path: Path) -> None:
    """Once; a file is then recognised with them, and asks nobody."""
    for _ in range(2):
        assert models.cifar_resnet20(weights="toys").classes == NAMES
    assert asked(server) == ["model.safetensors", "toys.txt"]
    assert models.load(tmp_path / "toys.safetensors").classes == NAMES
    model = models.cifar_resnet20(weights="toys")
    models.save(model, tmp_path / "saved.safetensors")
    (tmp_path / "cache" / "fastconv" / "weights" / "toys" / "toys.txt").unlink()
    assert models.load(tmp_path / "saved.safetensors").classes == NAMES, "the file has its own"
    assert len(server.requests) == 2


@pytest.mark.parametrize("place", ["data", "own"])
def test_names_that_are_here_are_not_downloaded(
    place: str, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "own"
    if place == "data":
        folder = tmp_path / "data" / "weights"
        folder.mkdir(parents=True)
        monkeypatch.setenv("FASTCONV_DATA", str(tmp_path / "data"))
    (folder / "toys.txt").write_bytes(TEXT)
    assert models.cifar_resnet20(weights=tmp_path / "toys.safetensors").classes == NAMES
    assert not server.requests
    (folder / "toys.txt").write_bytes(b"not\nwhat was\npublished")
    assert models.cifar_resnet20(weights=tmp_path / "toys.safetensors").classes is None
    assert models.cifar_resnet20(weights="toys").classes == NAMES
    assert asked(server) == ["model.safetensors", "toys.txt"]


@pytest.mark.parametrize("fault", ["missing", "wrong", "no mirror", "no network"])
def test_weights_without_names(fault: str, server: Server, tmp_path: Path) -> None:
    """The weights are used, and one warning says how to get the names."""
    entry, classes = registered(tmp_path)
    reason = {"missing": "404 Not Found", "wrong": "wrong SHA-256"}.get(fault, fault)
    if fault == "missing":
        del server.files["toys.txt"]
    elif fault == "wrong":
        server.files["toys.txt"] = b"not\nwhat was\npublished"
    elif fault == "no mirror":
        del classes["toys"]["mirrors"]
        reason = "on no server that fastconv knows"
    else:
        classes["toys"]["mirrors"] = ["http://127.0.0.1:9/"]
    register(tmp_path, entry, classes)
    advice = rf"{reason}.*put (toys\.txt|it) into .*toys, or into \$FASTCONV_DATA/weights"
    with pytest.warns(UserWarning, match=rf"(?i)model\.classes is None.*{advice}") as caught:
        model = models.cifar_resnet20(weights="toys")
    assert len(caught) == 1 and caught[0].filename == __file__
    assert model.classes is None and model.preprocessing.size == (32, 32)
    assert not list((tmp_path / "cache").rglob("toys.txt"))


def test_commands_say_how_to_get_the_names(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = pytest.importorskip("PIL.Image")
    picture, weights = str(tmp_path / "x.png"), str(tmp_path / "toys.safetensors")
    image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(picture)
    command = ["predict", "cifar_resnet20", "--weights", weights, picture]
    assert main(command) == 0
    out, err = capsys.readouterr()
    assert out.count("%") == 3 and "car" not in out.removeprefix(picture)
    assert len(err.splitlines()) == 1
    assert "--classes FILE, or put toys.txt into" in err and f"{server.url}toys.txt" in err
    for split, name in itertools.product(("train", "test"), ("x", "y")):
        (tmp_path / "data" / split / name).mkdir(parents=True)
        shutil.copy(picture, tmp_path / "data" / split / name)
    data = ["--data", str(tmp_path / "data")]
    assert main(["evaluate", "cifar_resnet20", "--weights", weights, *data]) == 0
    assert "folders count as 0, 1, ... in their order" in capsys.readouterr().err
    assert not server.requests, "a path does not use the network"

    (tmp_path / "names.txt").write_bytes(TEXT)
    assert main([*command, "--classes", str(tmp_path / "names.txt")]) == 0
    out, err = capsys.readouterr()
    assert "doll" in out and not err
    assert main(["predict", "cifar_resnet20", "--weights", "toys", picture]) == 0
    assert main(command) == 0, "they are in the cache now"
    out, err = capsys.readouterr()
    assert out.count("doll") == 2 and not err


def test_registries_share_their_lists(server: Server, tmp_path: Path) -> None:
    """One's own entries may name fastconv's lists; a list that nobody has is an error."""
    entry, classes = registered(tmp_path)
    path = tmp_path / "toys.safetensors"
    register(tmp_path, {**entry, "classes": "cifar10"}, {})
    assert len(models.cifar_resnet20(weights=path).classes or ()) == 10
    register(tmp_path, {**entry, "classes": "toys"}, {"toys": NAMES})
    model = models.cifar_resnet20(weights=path)
    assert model.classes == NAMES
    model.classes.append("other")
    assert models.cifar_resnet20(weights=path).classes == NAMES, "each network has its own list"
    for wrong in ({}, {"toys": {"files": {}}}, {"toys": {"fils": {}}}, {"toys": 3}, []):
        register(tmp_path, entry, wrong)
        with pytest.raises(fc.CorruptFileError, match="is no registry of weights"):
            models.available()
    register(tmp_path, entry, classes)
    assert models.available("cifar_resnet20")[0].classes is not None
    assert not server.requests, "what there is, is known without the network"
