"""Pretrained weights by name, by path and as saved; and what is said of those that do not fit."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastconv as fc
from fastconv import models, nn
from fastconv.data.cifar10 import CLASSES
from fastconv.data.preprocessing import CIFAR10, IMAGENET, TENSORFLOW, Preprocessing
from fastconv.io import load_metadata
from fastconv.models.mobilenet_v2 import STAGES
from fastconv.models.pretrained import ClassFile, Published
from fastconv.models.weight_files import read, under_own_names
from tests.server import Server
from tests.support import uniform
from tests.test_models import made


def same(a: nn.Module, b: nn.Module) -> bool:
    ours, theirs = a.state_dict(), b.state_dict()
    return list(ours) == list(theirs) and all(
        np.array_equal(tensor.numpy(), theirs[name].numpy()) for name, tensor in ours.items()
    )


def small(**options: Any) -> Any:
    return models.cifar_resnet20(width=2, **options)


# ---------------------------------------------------------------------------------- save and load
def test_a_saved_network_builds_itself(tmp_path: Path) -> None:
    """With its arguments, preprocessing, classes and running statistics."""
    path = tmp_path / "x.safetensors"
    saved = models.lenet5(np.int64(3), variant="classic")
    saved.preprocessing = Preprocessing(28, None, channels="L", mean=(0.5,), std=(0.25,))
    models.save(saved, path, classes=["a", "b", "c"])
    loaded = models.load(path)
    assert same(saved, loaded) and loaded.classes == ["a", "b", "c"]
    assert loaded.preprocessing == saved.preprocessing
    assert loaded.architecture == saved.architecture
    assert loaded.architecture == (
        "lenet5",
        {"num_classes": 3, "in_channels": 1, "variant": "classic"},
    )
    again = models.lenet5(weights=path)  # what is not said, the weights say
    assert same(again, saved) and again.classes == ["a", "b", "c"]
    assert set(fc.load(path)) == set(saved.state_dict()), "any program can read the tensors"
    header = json.loads(load_metadata(path)["fastconv"])
    assert header["architecture"] == "lenet5"


def test_a_replaced_head_is_saved(tmp_path: Path) -> None:
    model = models.replace_head(small(), 2, ["cat", "dog"])
    models.save(model, tmp_path / "x.safetensors")
    loaded = models.load(tmp_path / "x.safetensors")
    assert loaded.linear.weight.shape == (2, 8) and loaded.classes == ["cat", "dog"]
    assert loaded.preprocessing is None, "as it was trained: with bytes from 0 to 1"
    fc.save(model.state_dict(), tmp_path / "x.safetensors")
    loaded = small(num_classes=2, weights=tmp_path / "x.safetensors")
    assert loaded.preprocessing == CIFAR10, "the architecture's, as the file says nothing"


@pytest.mark.parametrize("name", ["alexnet", "googlenet", "mobilenet_v1", "conv_autoencoder"])
def test_every_family_remembers_how_it_was_built(name: str) -> None:
    entry = models.ARCHITECTURES[name]
    options = {"width": 0.25} if name == "mobilenet_v1" else {}
    model = made(name, **options)
    assert model.architecture[0] == name and set(model.architecture[1]) == set(entry.arguments)
    assert model.preprocessing is None and model.classes is None
    again = models.build(name, **model.architecture[1])
    assert [p.shape for p in again.parameters()] == [p.shape for p in model.parameters()]


def test_what_cannot_be_saved_or_loaded(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    with pytest.raises(ValueError, match=r"\[models\.save\] Sequential is not of models"):
        models.save(nn.Sequential(nn.Linear(2, 2)), path)
    with pytest.raises(ValueError, match="2 classes for 10 outputs"):
        models.save(small(), path, classes=["a", "b"])
    assert not path.exists()
    fc.save(small().state_dict(), path)
    with pytest.raises(ValueError, match="does not say of which network it is"):
        models.load(path)
    models.save(small(), path)
    with pytest.raises(ValueError, match=r"\[lenet5\] .* holds the weights of cifar_resnet20"):
        models.lenet5(weights=path)
    for header in ("{", "[]", '{"architecture": "lenet9"}', '{"preprocessing": {"sise": 1}}'):
        fc.save(small().state_dict(), path, {"fastconv": header})
        with pytest.raises(ValueError, match=r"damaged header|does not have"):
            models.load(path)
    with pytest.raises(FileNotFoundError):
        models.load(tmp_path / "nothing.safetensors")
    with pytest.raises(ValueError, match="no network 'resnet19'; there are resnet18"):
        models.build("resnet19")
    with pytest.raises(TypeError, match=r"lenet5\(\) got an unexpected keyword argument 'size'"):
        models.lenet5(size=3)  # type: ignore[call-arg]


def test_kerass_own_files_are_refused_with_the_recipe(tmp_path: Path) -> None:
    for name, begin in (("x.h5", b"\x89HDF\r\n\x1a\n"), ("x.keras", b"PK\x03\x04")):
        (tmp_path / name).write_bytes(begin + bytes(50))
        for use in (fc.load, models.load, lambda path: models.lenet5(weights=path)):
            with pytest.raises(fc.CorruptFileError, match=r"Keras(?s:.*)keras\.models\.load_model"):
                use(tmp_path / name)


# ------------------------------------------------------------------------------------ the registry
def test_the_registry_is_sound() -> None:
    """Names, hashes, addresses; arguments that exist; preprocessing and classes that fit."""
    entries = models.available()
    assert len(entries) >= 20
    for entry in entries:
        architecture = models.ARCHITECTURES[entry.architecture]
        assert set(entry.arguments) <= set(architecture.arguments)
        for name, sha256 in entry.files.items():
            assert len(bytes.fromhex(sha256)) == 32 and "/" not in name
        assert all(url.startswith("https://") and url.endswith("/") for url in entry.mirrors)
        assert entry.source.startswith("https://") and entry.license
        description = entry.description()
        assert description.preprocessing is not None
        assert description.preprocessing.size == architecture.input_shape[1:]
        classes, names = entry.classes, entry.name.split("_")[0]
        if isinstance(classes, ClassFile):
            (sha256,) = classes.files.values()
            assert classes.name == names == "imagenet" and len(bytes.fromhex(sha256)) == 32
            assert all(url.startswith("https://") and url[-1] == "/" for url in classes.mirrors)
        else:
            assert names == "cifar10" and classes == list(CLASSES)
        assert entry.name in architecture.weights
    assert models.ARCHITECTURES["mobilenet_v1"].preprocessing == TENSORFLOW
    assert models.ARCHITECTURES["resnet18"].preprocessing == IMAGENET
    assert models.ARCHITECTURES["tiny_vgg"].preprocessing is None


@pytest.fixture
def published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Server, nn.Module, dict[str, Any]]]:
    """A network on a server, its entry in a registry of one's own, and an empty cache."""
    pytest.importorskip("pooch")
    model = small(num_classes=3)
    fc.save(model.state_dict(), tmp_path / "made.safetensors")
    content = (tmp_path / "made.safetensors").read_bytes()
    (tmp_path / "made.safetensors").unlink()
    for name in ("http_proxy", "HTTP_PROXY", "FASTCONV_DATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("FASTCONV_WEIGHTS", str(tmp_path / "own" / "registry.json"))
    (tmp_path / "own").mkdir()
    with Server({"model.safetensors": content}) as server:
        entry = {
            "architecture": "cifar_resnet20",
            "name": "toys",
            "arguments": {"num_classes": 3, "width": 2},
            "files": {"model.safetensors": hashlib.sha256(content).hexdigest()},
            "mirrors": [server.url],
            "preprocessing": {"size": 32, "resize": 40, "channels": "BGR"},
            "classes": ["car", "doll", "top"],
            "source": "https://example.org",
        }
        (tmp_path / "own" / "registry.json").write_text(json.dumps({"weights": [entry]}))
        yield server, model, entry


def test_weights_by_name(published: Any, tmp_path: Path) -> None:
    """Downloaded once; arguments, preprocessing and classes come with them."""
    server, model, _ = published
    for _ in range(2):
        loaded = models.cifar_resnet20(weights="toys")
        assert same(loaded, model) and loaded.classes == ["car", "doll", "top"]
        assert loaded.preprocessing == Preprocessing(32, 40, channels="BGR")
        assert loaded.architecture[1] == {"num_classes": 3, "in_channels": 3, "width": 2}
    assert server.requests == [("model.safetensors", None)]
    # By its hash the file is recognised wherever it lies.
    (found,) = (tmp_path / "cache").rglob("model.safetensors")
    moved = found.rename(tmp_path / "renamed.safetensors")
    assert models.cifar_resnet20(weights=moved).classes == ["car", "doll", "top"]
    assert same(models.load(moved), model)
    assert models.ARCHITECTURES["cifar_resnet20"].weights[:2] == ["toys", "cifar10"]


@pytest.mark.parametrize("place", ["data", "own"])
def test_weights_that_are_here_are_not_downloaded(
    place: str, published: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, model, _ = published
    folder = tmp_path / "own"
    if place == "data":
        folder = tmp_path / "data" / "weights" / "cifar_resnet20-toys-num_classes=3-width=2"
        folder.mkdir(parents=True)
        monkeypatch.setenv("FASTCONV_DATA", str(tmp_path / "data"))
    (folder / "model.safetensors").write_bytes(server.files["model.safetensors"])
    assert same(models.cifar_resnet20(weights="toys"), model)
    assert not server.requests
    (folder / "model.safetensors").write_bytes(b"not what was published")
    assert same(models.cifar_resnet20(weights="toys"), model)
    assert server.requests


def test_names_that_are_not_published(published: Any, tmp_path: Path) -> None:
    server, _, entry = published
    with pytest.raises(FileNotFoundError, match=r"weights='toy': no such file.*'toys', 'cifar10'"):
        models.cifar_resnet20(weights="toy")
    with pytest.raises(FileNotFoundError, match=r"no such file.*weights of lenet5: none"):
        models.lenet5(weights="toys")
    with pytest.raises(ValueError, match=r"published for num_classes=3, width=2, not width=4"):
        models.cifar_resnet20(width=4, weights="toys")
    with pytest.raises(fc.DownloadError, match=r"on no server .*put it into .*cifar_resnet20-cif"):
        models.cifar_resnet20(weights="cifar10")
    server.files.clear()
    with pytest.raises(fc.DownloadError, match=r"\[cifar_resnet20 'toys'\] (?s:.*)404 Not Found"):
        models.cifar_resnet20(weights="toys")
    registry = tmp_path / "own" / "registry.json"
    for text in ("{", "{}", '{"weights": [{"name": "x"}]}', '{"weights": 3}'):
        registry.write_text(text)
        with pytest.raises(fc.CorruptFileError, match="is no registry of weights"):
            models.available()
    registry.unlink()
    with pytest.raises(FileNotFoundError, match=r"\$FASTCONV_WEIGHTS names .*which is no file"):
        models.available()
    registry.write_text(json.dumps({"weights": [{**entry, "preprocessing": {"sise": 1}}]}))
    with pytest.raises(fc.CorruptFileError, match=r"unknown sise"):
        models.available()


def test_tensorflow_js(tmp_path: Path, rng: np.random.Generator) -> None:
    """model.json, two groups, one of them in two shards; Keras's names and layouts."""
    tensors = {
        "conv/kernel": uniform(rng, 3, 3, 1, 2),
        "conv/bias": uniform(rng, 2),
        "out/kernel": uniform(rng, 2, 5),
    }
    manifest = [
        {
            "paths": paths,
            "weights": [
                {"name": name, "shape": tensors[name].shape, "dtype": "float32"} for name in names
            ],
        }
        for paths, names in ((["a1", "a2"], list(tensors)[:2]), (["b"], list(tensors)[2:]))
    ]
    (tmp_path / "model.json").write_text(json.dumps({"weightsManifest": manifest}))
    first = b"".join(tensors[name].tobytes() for name in list(tensors)[:2])
    (tmp_path / "a1").write_bytes(first[:30])
    (tmp_path / "a2").write_bytes(first[30:])
    (tmp_path / "b").write_bytes(tensors["out/kernel"].tobytes())
    state = under_own_names(read(tmp_path / "model.json").tensors, (), {})
    assert list(state) == ["conv.weight", "conv.bias", "out.weight"]
    np.testing.assert_array_equal(
        state["conv.weight"], tensors["conv/kernel"].transpose(3, 2, 0, 1)
    )
    (tmp_path / "b").write_bytes(b"1234")
    with pytest.raises(fc.CorruptFileError, match=r"is no TensorFlow\.js model"):
        read(tmp_path / "model.json")


def test_keras_names_in_safetensors(tmp_path: Path) -> None:
    """Old and new names of depthwise kernels; a network takes them as they are."""
    model = models.mobilenet_v1(width=0.25, num_classes=3)
    reverse = {"running_mean": "moving_mean", "running_var": "moving_variance"}
    for depthwise in ("kernel", "depthwise_kernel"):
        state = {}
        for name, tensor in model.state_dict().items():
            layer, _, kind = name.rpartition(".")
            values = np.asarray(tensor)
            if kind == "num_batches_tracked":
                continue
            if layer.endswith("_bn"):
                kind = {"weight": "gamma", "bias": "beta"}.get(kind, reverse.get(kind, kind))
            elif kind == "weight" and "_dw_" in layer:
                kind, values = depthwise, values.transpose(2, 3, 0, 1)
            elif kind == "weight":
                kind, values = "kernel", values.transpose(2, 3, 1, 0)
            state[f"{layer}/{kind}"] = values
        fc.save(state, tmp_path / "keras.safetensors")
        loaded = models.mobilenet_v1(3, width=0.25, weights=tmp_path / "keras.safetensors")
        assert same(loaded, model) and loaded.preprocessing == TENSORFLOW


def timm_vgg(index: int, name: str) -> str:
    for ours, theirs in (("0", "pre_logits.fc1"), ("3", "pre_logits.fc2"), ("6", "head.fc")):
        name = name.replace(f"classifier.{ours}.", f"{theirs}.")
    return name


def timm_mobilenet_v2(index: int, name: str) -> str:
    """As timm counts: stages and blocks, layers by what they are."""
    places = [(s, b) for s, (_, _, blocks, _) in enumerate(STAGES) for b in range(blocks)]
    kind, number, *rest = name.split(".")
    if kind == "classifier":
        return f"classifier.{rest[0]}"
    if number in ("0", "18"):
        layer = {"0": "conv_stem", "18": "conv_head"} if rest[0] == "0" else {"0": "bn1"}
        return f"{layer.get(number, 'bn2')}.{rest[-1]}"
    stage, block = places[int(number) - 1]
    layers = {"0.0": "conv_pw", "0.1": "bn1", "1.0": "conv_dw", "1.1": "bn2"}
    layers |= {"2": "conv_pwl", "3": "bn3"}
    if stage == 0:
        layers = {"0.0": "conv_dw", "0.1": "bn1", "1": "conv_pw", "2": "bn2"}
    return f"blocks.{stage}.{block}.{layers['.'.join(rest[1:-1])]}.{rest[-1]}"


@pytest.mark.parametrize(
    ("name", "theirs"),
    [("vgg11", timm_vgg), ("vgg16_bn", timm_vgg), ("mobilenet_v2", timm_mobilenet_v2)],
)
def test_timms_names_become_torchvisions(
    name: str, theirs: Callable[[int, str], str], tmp_path: Path
) -> None:
    """Every tensor, also dense layers that are convolutions there; shapes as they are."""
    entry = next(e for e in models.available(name) if e.rename)
    assert isinstance(entry, Published)
    own = {n: t for n, t in made(name).state_dict().items() if n[-7:] != "tracked"}
    tiny = {}
    for i, (key, tensor) in enumerate(own.items()):
        values = np.full([1] * tensor.ndim, i, np.float32)
        if "classifier" in key and tensor.ndim == 2 and name != "mobilenet_v2":
            values = values[..., None, None]
        tiny[theirs(i, key)] = values
    assert set(tiny) != set(own)
    fc.save(tiny, tmp_path / "model.safetensors")
    state = under_own_names(read(tmp_path / "model.safetensors").tensors, entry.rename, own)
    assert set(state) == set(own)
    for i, key in enumerate(own):
        assert state[key].ravel().tolist() == [i] and state[key].ndim == own[key].ndim


# ------------------------------------------------------------------------------- what does not fit
def failure(model: nn.Module, state: dict[str, Any]) -> str:
    before = {name: tensor.numpy().copy() for name, tensor in model.state_dict().items()}
    with pytest.raises(ValueError, match=r"nothing was loaded") as caught:
        model.load_state_dict(state)
    for name, tensor in model.state_dict().items():
        np.testing.assert_array_equal(tensor.numpy(), before[name], strict=True)
    return str(caught.value)


def test_reports_end_with_the_usual_reason() -> None:
    state = small(num_classes=7).state_dict()
    last = failure(small(), state).splitlines()[-1]
    assert last == (
        "Only linear differs: the weights are for 7 outputs, this network has 10. Build it with "
        "num_classes=7, load, then models.replace_head(model, 10)."
    )
    state = {f"backbone.net.{name}": tensor for name, tensor in small().state_dict().items()}
    text = failure(small(), state)
    assert text.count("missing  ") + text.count("unexpected  ") == 2 * len(state) - 19
    assert 'The names begin with "backbone.net."' in text
    autoencoder = models.dense_autoencoder()
    assert "load them into model.encoder" in failure(autoencoder, autoencoder.encoder.state_dict())
    assert "another network" in failure(small(), models.lenet5().state_dict())
    assert "or of another width" in failure(small(), models.cifar_resnet20(width=4).state_dict())
    lenet = models.lenet5()
    turned = {name: np.asarray(tensor).T for name, tensor in lenet.state_dict().items()}
    turned["0.weight"] = np.asarray(lenet.state_dict()["0.weight"]).transpose(2, 3, 1, 0)
    assert "Keras's layouts" in failure(lenet, turned)
    assert "models.from_keras" in failure(lenet, {"conv/kernel": np.zeros((3, 3, 1, 2))})
    del (plain := dict(lenet.state_dict()))["0.bias"]
    text = failure(lenet, plain)
    assert text.endswith("missing       0.bias (6,)"), "no guess where there is none to make"


def test_not_strict() -> None:
    model, state = models.lenet5(), dict(models.lenet5().state_dict())
    state["extra"] = state.pop("0.bias")
    result = model.load_state_dict(state, strict=False)
    assert result == (["0.bias"], ["extra"])
    np.testing.assert_array_equal(model.state_dict()["11.bias"].numpy(), state["11.bias"].numpy())
    state["11.bias"] = np.zeros(3, np.float32)
    with pytest.raises(ValueError, match=r"wrong shape +11\.bias: expected \(10,\), got \(3,\)"):
        model.load_state_dict(state, strict=False)
