"""The networks of the literature: counts, names, both layouts, a training step; torchvision's."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastconv as fc
from fastconv import functional as F
from fastconv import models, nn, optim
from fastconv.nn import init
from tests.support import uniform

CLASSES = 5

# Parameters, and the start of the sha256 of the lines "name shape" of the state_dict: for the
# networks that torchvision 0.28 has, taken from there.
STATES = {
    "alexnet": (61_100_840, "214045a0c08f"),
    "cifar_resnet20": (269_722, "7f36ab3551c1"),
    "cifar_resnet32": (464_154, "0dcacd528531"),
    "cifar_resnet44": (658_586, "13c9302fe5cd"),
    "cifar_resnet56": (853_018, "a2d91c2747d7"),
    "cifar_resnet110": (1_727_962, "57c3eefa847e"),
    "conv_autoencoder": (111_521, "8257131d80a3"),
    "dense_autoencoder": (222_384, "d3a9103b7d65"),
    "googlenet": (13_004_888, "e2cf6c5ea766"),
    "mobilenet_v1": (4_231_976, "b8a190aac292"),
    "mobilenet_v2": (3_504_872, "5c45000c8dea"),
    "resnet18": (11_689_512, "761022b221a3"),
    "resnet34": (21_797_672, "1a060acae7a4"),
    "resnet50": (25_557_032, "3fa57287149b"),
    "resnet101": (44_549_160, "0e9191dd134c"),
    "resnet152": (60_192_808, "47360b6062c7"),
    "tiny_vgg": (19_920, "b0e8c8116ea5"),
    "vgg11": (132_863_336, "a4a2a4a84e73"),
    "vgg11_bn": (132_868_840, "6aaf84aad415"),
    "vgg13": (133_047_848, "9dc9518e7646"),
    "vgg13_bn": (133_053_736, "9a11dd9903f0"),
    "vgg16": (138_357_544, "6f36a6fd49b6"),
    "vgg16_bn": (138_365_992, "5f99e428d932"),
    "vgg19": (143_667_240, "e05a894c9ad1"),
    "vgg19_bn": (143_678_248, "4c042cc97e1d"),
}
FOR_DIGITS = {"lenet1", "lenet5", "keras_mlp", "keras_convnet", "keras_convnet_no_pool"}
# Networks and images as small as they can be, and one for each kind of block.
SIZES = {
    "alexnet": (3, 63, 63),
    "cifar_resnet20": (3, 15, 16),
    "googlenet": (3, 32, 32),
    "mobilenet_v1": (3, 32, 33),
    "mobilenet_v2": (3, 32, 32),
    "resnet18": (3, 32, 32),
    "resnet50": (3, 32, 32),
    "tiny_vgg": (3, 64, 64),
    "vgg11": (3, 32, 32),
    "vgg13_bn": (3, 32, 32),
}


@contextmanager
def without_starting_values() -> Iterator[None]:
    """Random initial values take most of the time that large networks need to be made."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("uniform_", "normal_"):
            patch.setattr(init, name, lambda tensor, *args: tensor)
        yield


def made(name: str, **options: Any) -> Any:
    with without_starting_values():
        return getattr(models, name)(**options)


def small(name: str, rng: np.random.Generator, **options: Any) -> Any:
    """The network with lively values everywhere, and without dense layers of many megabytes."""
    model = made(name, num_classes=CLASSES, **options)
    if name == "alexnet" or name.startswith("vgg"):
        model.classifier = nn.Linear({"a": 256 * 36, "v": 512 * 49}[name[0]], CLASSES)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            shape = module.running_mean.shape
            module.running_mean.copy_(0.1 * uniform(rng, *shape))
            module.running_var.copy_(1 + 0.5 * uniform(rng, *shape))
            with fc.no_grad():
                module.weight.copy_(1 + 0.5 * uniform(rng, *shape))
                module.bias.copy_(0.1 * uniform(rng, *shape))
        elif isinstance(module, (nn.Conv2d, nn.Linear)):
            with fc.no_grad():
                fan_in = init.fans(module.weight.shape)[0]
                values = rng.standard_normal(module.weight.shape, np.float32)
                module.weight.copy_(values * np.float32((1.5 / fan_in) ** 0.5))
                if module.bias is not None:
                    module.bias.copy_(0.1 * uniform(rng, *module.bias.shape))
    return model


# ---------------------------------------------------------------------------- names and numbers
def digest(state: dict[str, Any]) -> str:
    lines = "".join(f"{name} {tuple(tensor.shape)}\n" for name, tensor in state.items())
    return hashlib.sha256(lines.encode()).hexdigest()[:12]


@pytest.mark.parametrize("name", STATES)
def test_parameters_and_state_dict(name: str) -> None:
    model = made(name)
    count = sum(p.numel() for p in model.parameters())
    assert (count, digest(model.state_dict())) == STATES[name]
    assert f"{count:,} parameters" in str(inspect.getdoc(getattr(models, name)))


@pytest.mark.parametrize(
    ("make", "count"),
    [
        (lambda: models.googlenet(aux_logits=False), 6_624_904),
        (lambda: models.mobilenet_v1(width=0.75), 2_585_560),
        (lambda: models.mobilenet_v1(width=0.5), 1_331_592),
        (lambda: models.mobilenet_v1(width=0.25), 470_072),
        (lambda: models.mobilenet_v2(width=0.5), 1_968_680),
        (lambda: models.cifar_resnet20(width=8, in_channels=1), 67_906),
        (lambda: models.tiny_vgg(num_classes=2, width=4, in_channels=1), 1_838),
    ],
)
def test_variants(make: Callable[[], nn.Module], count: int) -> None:
    with without_starting_values():
        assert sum(p.numel() for p in make().parameters()) == count


def test_depths_and_sizes_that_do_not_exist() -> None:
    with pytest.raises(ValueError, match=r"\[VGG\] depth must be 11, 13, 16 or 19, got 12"):
        models.VGG(12)
    with pytest.raises(ValueError, match=r"\[CifarResNet\] depth must be 6 n \+ 2"):
        models.CifarResNet(18)
    with pytest.raises(ValueError, match="size must be a multiple of 4, got 30"):
        models.conv_autoencoder(size=30)


def test_every_network_is_listed() -> None:
    """In the catalogue, in `models`, and in the tests here."""
    assert set(models.ARCHITECTURES) == FOR_DIGITS | set(STATES) <= set(models.__all__)


def test_starting_values_follow_torchvision() -> None:
    """He et al.'s deviation by the outputs for convolutions, 0.01 in the last layers."""
    fc.manual_seed(0)
    model = models.mobilenet_v2(num_classes=50)
    weight = model.features[18][0].weight.numpy()
    assert weight.std() == pytest.approx((2 / 1280) ** 0.5, rel=0.02)
    assert model.classifier[1].weight.numpy().std() == pytest.approx(0.01, rel=0.02)
    assert not model.classifier[1].bias.numpy().any()
    block = models.resnet18(num_classes=2).layer1[0]
    assert block.conv1.weight.numpy().std() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.02)
    narrow = models.googlenet(num_classes=2, aux_logits=False).inception5b.branch2[1]
    assert narrow.conv.weight.numpy().std() == pytest.approx(0.01, rel=0.02)


# ------------------------------------------------------------------------------------ arithmetic
@pytest.mark.parametrize("name", SIZES)
def test_both_layouts_agree(name: str, rng: np.random.Generator) -> None:
    """Batches of 1 to 15 run without lanes when no gradient is wanted; both recorded and not."""
    model = small(name, rng).eval()
    x = uniform(rng, 16, *SIZES[name])
    with fc.no_grad():
        lanes = model(fc.Tensor(x)).numpy()
        few = model(x[:2]).numpy()
    recorded = model(fc.Tensor(x[:2])).numpy()
    assert lanes.shape == (16, CLASSES)
    scale = np.abs(lanes).max()
    assert scale > 0.01
    np.testing.assert_allclose(few, lanes[:2], rtol=0, atol=1e-4 * scale)
    np.testing.assert_allclose(recorded, lanes[:2], rtol=0, atol=1e-4 * scale)


@pytest.mark.parametrize("name", SIZES)
def test_a_training_step_changes_everything(name: str, rng: np.random.Generator) -> None:
    """Every parameter, and the running statistics of batch normalisation."""
    model = small(name, rng).train()
    before = {key: value.numpy().copy() for key, value in model.state_dict().items()}
    x, labels = uniform(rng, 6, *SIZES[name]), fc.Tensor(np.arange(6) % CLASSES)
    models.GoogLeNetLoss()(model(x), labels).backward()
    optim.SGD(model.parameters(), lr=0.1).step()
    # Batch normalisation takes away what the bias in front of it adds.
    idle = {f"features.{i}.bias" for i in (0, 3, 7, 10, 14, 17, 21, 24, 28, 31)}
    for key, value in model.state_dict().items():
        now = value.numpy()
        assert np.isfinite(now).all(), key
        if not (name == "vgg13_bn" and key in idle):
            assert (now != before[key]).any(), key


def test_cifar_shortcut(rng: np.random.Generator) -> None:
    """Option A: every second pixel, zeros around the old channels; also of odd sizes."""
    block = models.cifar_resnet20().layer2[0]
    for n, size in ((2, 8), (17, 7)):
        x = uniform(rng, n, 16, size, size)
        expected = np.pad(x[:, :, ::2, ::2], ((0, 0), (8, 8), (0, 0), (0, 0)))
        np.testing.assert_array_equal(block.shortcut(fc.Tensor(x)).numpy(), expected)


def test_googlenet_has_three_heads_in_training(rng: np.random.Generator) -> None:
    model = small("googlenet", rng)
    x, labels = uniform(rng, 4, 3, 32, 32), np.arange(4)
    outputs = model.train()(x)
    assert isinstance(outputs, models.GoogLeNetOutputs)
    each = [F.cross_entropy(heads, fc.Tensor(labels)).item() for heads in outputs]
    assert models.GoogLeNetLoss()(outputs, fc.Tensor(labels)).item() == pytest.approx(
        each[0] + 0.3 * (each[1] + each[2]), rel=1e-6
    )
    assert model.eval()(x).shape == (4, CLASSES)
    model.compile("sgd", models.GoogLeNetLoss(), metrics=["accuracy"])
    history = model.fit(x, labels, batch_size=4, verbose=0)
    assert set(history.history) == {"loss", "accuracy"}
    np.testing.assert_allclose(model.predict(x).sum(axis=1), 1, atol=1e-5)
    model.compile("sgd")
    with pytest.raises(TypeError, match=r"use models\.GoogLeNetLoss\(\) as the loss"):
        model.fit(x, labels, verbose=0)
    plain = small("googlenet", rng, aux_logits=False).train()
    assert plain(x).shape == (4, CLASSES)


def test_googlenet_transforms_inputs(rng: np.random.Generator) -> None:
    """ImageNet's normalisation becomes -1 to 1."""
    model = small("googlenet", rng, aux_logits=False, transform_input=True).eval()
    pixels = rng.random((2, 3, 32, 32), np.float32)
    mean, std = np.float32([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[:, :, None, None]
    normalised = model((pixels - mean) / std).numpy()
    model.transform_input = False
    np.testing.assert_allclose(normalised, model(pixels * 2 - 1).numpy(), rtol=1e-4, atol=1e-4)


@pytest.fixture(scope="module")
def digits() -> np.ndarray:
    """(256, 1, 28, 28) from 0 to 1."""
    (images, _), _ = fc.data.digits()
    return images[:256, None].astype(np.float32) / 255


@pytest.mark.parametrize("name", ["dense_autoencoder", "conv_autoencoder"])
@pytest.mark.parametrize("loss", ["mse", "binary_crossentropy"])
def test_autoencoders_learn(name: str, loss: str, digits: np.ndarray, tmp_path: Path) -> None:
    fc.manual_seed(0)
    x = digits
    model = getattr(models, name)(code_size=8)
    model.compile("adam", loss=loss)
    before = model.evaluate(x, x)
    model.fit(x, x, epochs=4, batch_size=32, verbose=0)
    assert model.evaluate(x, x) < 0.75 * before
    pictures = model.predict(x[:3])
    assert pictures.shape == (3, 1, 28, 28) and 0 <= pictures.min() <= pictures.max() <= 1
    # The halves are saved and loaded on their own.
    fc.save(model.encoder.state_dict(), tmp_path / "encoder.safetensors")
    fc.save(model.decoder.state_dict(), tmp_path / "decoder.safetensors")
    other = getattr(models, name)(code_size=8)
    other.encoder.load_state_dict(fc.load(tmp_path / "encoder.safetensors"))
    other.decoder.load_state_dict(fc.load(tmp_path / "decoder.safetensors"))
    with fc.no_grad():
        code = other.encode(x[:3])
        assert code.shape == (3, 8)
        np.testing.assert_allclose(other.decode(code).numpy(), pictures, atol=1e-5)


# --------------------------------------------------------------------------------------- weights
def test_weights_come_back(tmp_path: Path, rng: np.random.Generator) -> None:
    """Under their own names, with "module." in front, and from a file of another network."""
    path = tmp_path / "weights.safetensors"
    saved = models.cifar_resnet20(num_classes=3, width=4)
    for prefix in ("", "module."):
        fc.save({prefix + name: t for name, t in saved.state_dict().items()}, path)
        loaded = models.cifar_resnet20(num_classes=3, width=4, weights=path)
        for name, tensor in saved.state_dict().items():
            np.testing.assert_array_equal(loaded.state_dict()[name].numpy(), tensor.numpy())
    with pytest.raises(ValueError, match=r"linear\.weight: expected \(10, 16\), got \(3, 16\)"):
        models.cifar_resnet20(width=4, weights=path)


def test_googlenet_without_heads_takes_weights_with_them(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    state = made("googlenet", num_classes=2).state_dict()
    for names in (list(state), [name for name in state if not name.startswith("aux")]):
        fc.save({name: state[name] for name in names}, path)
        made("googlenet", num_classes=2, aux_logits=False, weights=path)
    with pytest.raises(ValueError, match=r"missing +aux1\.conv\.conv\.weight"):
        made("googlenet", num_classes=2, weights=path)


def test_keras_layouts(rng: np.random.Generator) -> None:
    """Channels last: Conv2D, DepthwiseConv2D with a multiplier, BatchNormalization, Dense."""
    image = uniform(rng, 4, 4, 2)  # (H, W, C)
    conv, depthwise = uniform(rng, 3, 3, 2, 4), uniform(rng, 2, 2, 4, 3)
    dense = uniform(rng, 12, 5)
    statistics = [uniform(rng, 12) for _ in range(3)] + [1 + 0.5 * uniform(rng, 12)]
    names = ["gamma", "beta", "moving_mean", "moving_variance"]
    state = {
        "c/c/kernel:0": conv,
        "d/depthwise_kernel": depthwise,
        **{f"bn/{name}": values for name, values in zip(names, statistics, strict=True)},
        "out/kernel": dense,
        "out/bias": np.zeros(5, np.float32),
    }
    network = nn.Sequential(
        {
            "c": nn.Conv2d(2, 4, 3, bias=False),
            "d": nn.Conv2d(4, 12, 2, groups=4, bias=False),
            "bn": nn.BatchNorm2d(12, eps=1e-3),
            "flatten": nn.Flatten(),
            "out": nn.Linear(12, 5),
        }
    ).eval()
    network.load_state_dict(models.from_keras(state, flattened={"out": (1, 1, 12)}))
    y = np.zeros((2, 2, 4))
    for i, j in np.ndindex(2, 2):
        y[i, j] = np.einsum("hwc,hwco->o", image[i : i + 3, j : j + 3], conv)
    z = np.einsum("hwc,hwcm->cm", y, depthwise).reshape(12)
    gamma, beta, mean, variance = statistics
    z = (z - mean) / np.sqrt(variance + 1e-3) * gamma + beta
    ours = network(image.transpose(2, 0, 1)[None].copy()).numpy()[0]
    np.testing.assert_allclose(ours, z @ dense, rtol=1e-4, atol=1e-4)

    pixels = uniform(rng, 2, 3, 4)  # (H, W, C), flattened in front of a Dense layer
    kernel = uniform(rng, 24, 5)
    turned = models.from_keras({"fc/kernel": kernel}, {"fc": (2, 3, 4)})["fc.weight"]
    np.testing.assert_allclose(
        turned @ pixels.transpose(2, 0, 1).ravel(), pixels.ravel() @ kernel, rtol=1e-5, atol=1e-5
    )
    renamed = models.from_keras({"d/kernel": depthwise}, depthwise=["d"])  # as Keras 3 has it
    np.testing.assert_array_equal(
        renamed["d.weight"], models.from_keras({"d/depthwise_kernel": depthwise})["d.weight"]
    )
    with pytest.raises(ValueError, match=r"lstm/recurrent_kernel \(4, 16\) is not a weight of"):
        models.from_keras({"lstm/recurrent_kernel": np.zeros((4, 16), np.float32)})


# ----------------------------------------------------------------------------------- torchvision
TORCHVISION_HAS = [n for n in STATES if n[:3] in ("ale", "goo", "res", "vgg")] + ["mobilenet_v2"]
COMPARED = ["alexnet", "vgg11", "vgg13_bn", "googlenet", "resnet18", "resnet50", "mobilenet_v2"]


@pytest.fixture(scope="module")
def torch() -> Any:
    return pytest.importorskip("torch", reason="PyTorch is not installed")


@pytest.fixture(scope="module")
def torchvision(torch: Any) -> Any:
    try:
        from torchvision import models as theirs
    except (ImportError, RuntimeError):  # RuntimeError: it was built for another PyTorch
        pytest.skip("torchvision is not installed")
    return theirs


def twin(name: str, ours: nn.Module, torch: Any, torchvision: Any) -> Any:
    """torchvision's network with the same values, made without drawing its own."""
    options = {"init_weights": False} if name == "googlenet" else {}
    with torch.device("meta"):
        theirs = getattr(torchvision, name)(num_classes=CLASSES, **options)
        if isinstance(ours.__dict__.get("classifier"), nn.Linear):
            theirs.classifier = torch.nn.Linear(ours.classifier.in_features, CLASSES)
    theirs = theirs.to_empty(device="cpu")
    theirs.load_state_dict({k: torch.tensor(v.numpy()) for k, v in ours.state_dict().items()})
    return theirs


@pytest.mark.parametrize("name", TORCHVISION_HAS)
def test_names_are_torchvisions(name: str, torch: Any, torchvision: Any) -> None:
    options = {"init_weights": False} if name == "googlenet" else {}
    with torch.device("meta"):
        theirs = getattr(torchvision, name)(**options)
    count = sum(p.numel() for p in theirs.parameters())
    assert (count, digest(theirs.state_dict())) == STATES[name]


@pytest.mark.parametrize("name", COMPARED)
def test_logits_are_torchvisions(
    name: str, torch: Any, torchvision: Any, rng: np.random.Generator
) -> None:
    ours = small(name, rng).eval()
    theirs = twin(name, ours, torch, torchvision).eval()
    for n in (2, 16):
        x = uniform(rng, n, *SIZES[name])
        with torch.no_grad(), fc.no_grad():
            expected, logits = theirs(torch.tensor(x)).numpy(), ours(x).numpy()
        scale = max(1.0, float(np.abs(expected).max()))
        np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-4 * scale)


@pytest.mark.parametrize("name", COMPARED)
def test_gradients_are_torchvisions(
    name: str, torch: Any, torchvision: Any, rng: np.random.Generator
) -> None:
    """In evaluation mode, where no batch of few values makes them ill-conditioned; all heads.

    Where a ReLU's input is zero but for rounding, its gradient may be taken from the other side,
    and those below move by about a hundredth. That is rare: one of four batches is free of it.
    """
    ours = small(name, rng)
    theirs = twin(name, ours, torch, torchvision)
    for model, norm, dropout in (
        (ours, nn.BatchNorm2d, nn.Dropout),
        (theirs, torch.nn.BatchNorm2d, torch.nn.Dropout),
    ):
        for module in model.modules():
            if isinstance(module, (norm, dropout)):
                module.eval()
    assert [k for k, _ in ours.named_parameters()] == [k for k, _ in theirs.named_parameters()]
    worst = [1.0]
    while min(worst) > 1e-4 and len(worst) < 5:
        x, labels = uniform(rng, 3, *SIZES[name]), np.arange(3)
        ours.zero_grad()
        models.GoogLeNetLoss()(ours(x), fc.Tensor(labels)).backward()
        theirs.zero_grad()
        outputs = theirs(torch.tensor(x))
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        losses = [torch.nn.functional.cross_entropy(y, torch.tensor(labels)) for y in outputs]
        (losses[0] + 0.3 * sum(losses[1:])).backward()
        errors = [
            float((torch.tensor(mine.grad.numpy()) - other.grad).norm() / other.grad.norm())
            for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True)
        ]
        worst.append(max(errors))
    assert min(worst) < 1e-4 and max(worst[1:]) < 0.1
