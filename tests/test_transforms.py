"""Random transforms: what each does, that it leaves its input alone, and repeats with its seed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fastconv import data
from tests.support import assert_same_bits


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def pictures(B: int = 40, C: int = 3, H: int = 24, W: int = 32) -> np.ndarray:
    """Smooth noise, uint8 (B, C, H, W)."""
    coarse = rng(1).integers(0, 256, (B, C, H // 4, W // 4)).astype(np.uint8)
    return coarse.repeat(4, axis=2).repeat(4, axis=3)


TRANSFORMS: dict[str, Any] = {
    "RandomHorizontalFlip": data.RandomHorizontalFlip(),
    "RandomVerticalFlip": data.RandomVerticalFlip(),
    "RandomCrop": data.RandomCrop((24, 32), padding=4),
    "CenterCrop": data.CenterCrop(16),
    "RandomResizedCrop": data.RandomResizedCrop(),
    "Resize": data.Resize((12, 40)),
    "ColorJitter": data.ColorJitter(0.4, 0.4, 0.4, 0.1),
    "RandomGrayscale": data.RandomGrayscale(0.5),
    "RandomErasing": data.RandomErasing(),
    "RandomErasing_noise": data.RandomErasing(value="random"),
    "RandomShift": data.RandomShift(3),
    "RandomRotation": data.RandomRotation(20),
}


@pytest.mark.parametrize("name", TRANSFORMS)
@pytest.mark.parametrize("kind", ["bytes", "floats", "grey", "flat"])
def test_every_transform(name: str, kind: str) -> None:
    """Type and number of axes stay, the input too; the same seed, the same result."""
    transform = TRANSFORMS[name]
    x = pictures()
    if kind == "floats":
        x = x.astype(np.float32) / 255
    elif kind != "bytes":
        x = x[:, :1] if kind == "grey" else x[:, 0]
    before = x.copy()
    y = transform(x, rng())
    assert_same_bits(x, before)
    assert y.dtype == x.dtype and y.ndim == x.ndim and len(y) == len(x)
    assert_same_bits(transform(x, rng()), y)
    if name.startswith("Random") and not (name == "RandomGrayscale" and kind in ("grey", "flat")):
        assert (transform(x, rng(1)) != y).any()
        changed = (y != x).reshape(len(x), -1).any(axis=1) if y.shape == x.shape else np.ones(1)
        assert changed.any()
    if kind == "floats" and name != "RandomErasing_noise":
        assert y.min() >= 0 and y.max() <= 1 + 1e-6


def test_flips_mirror_their_share() -> None:
    x = pictures(400)
    for transform, mirrored in (
        (data.RandomHorizontalFlip(0.3), x[..., ::-1]),
        (data.RandomVerticalFlip(0.3), x[..., ::-1, :]),
    ):
        y = transform(x, rng())
        flipped = (y == mirrored).all(axis=(1, 2, 3))
        assert ((y == x).all(axis=(1, 2, 3)) | flipped).all()
        assert 0.2 < flipped.mean() < 0.4
        transform.p = 0
        assert_same_bits(transform(x, rng()), x)


def test_random_crop_shows_every_place() -> None:
    x = np.arange(1, 31, dtype=np.uint8).reshape(1, 5, 6).repeat(500, axis=0)
    y = data.RandomCrop(3)(x, rng())
    corners = y[:, 0, 0] - 1
    assert set(corners.tolist()) == {6 * i + j for i in range(3) for j in range(4)}
    np.testing.assert_array_equal(y[:, 2, 2] - y[:, 0, 0], 14)
    padded = data.RandomCrop(5, padding=2, fill=7)(np.zeros((99, 3, 5, 5), np.uint8), rng())
    assert padded.shape == (99, 3, 5, 5) and set(np.unique(padded)) == {0, 7}
    with pytest.raises(ValueError, match="Resize first"):
        data.RandomCrop(40)(x, rng())
    with pytest.raises(ValueError, match="CenterCrop"):
        data.CenterCrop((3, 7))(x)


def test_resize_agrees_with_pillow() -> None:
    image = pytest.importorskip("PIL.Image")
    x = pictures(3)
    for size in ((24, 32), (12, 16), (7, 50), (60, 13), (100, 100), (1, 1)):
        y = data.Resize(size)(x)
        for i in range(3):
            picture = image.fromarray(x[i].transpose(1, 2, 0))
            expected = np.asarray(picture.resize(size[::-1], image.Resampling.BILINEAR))
            assert np.abs(y[i].transpose(1, 2, 0).astype(int) - expected).max() <= 1
    assert data.Resize(12)(x).shape == (3, 3, 12, 16)
    assert data.Resize(48)(x[:, 0]).shape == (3, 48, 64)


def test_random_resized_crop_is_a_crop_that_was_resized() -> None:
    crop = data.RandomResizedCrop((20, 30), scale=(0.2, 0.6))
    x = pictures(30)
    y = crop(x, rng(3))
    same = rng(3)
    for image, made in zip(x, y, strict=True):
        top, left, h, w = (int(v) for v in crop.box(24, 32, same))
        assert 0.15 < h * w / (24 * 32) < 0.65 and 0.7 < w / h < 1.4
        part = image[None, :, top : top + h, left : left + w]
        np.testing.assert_array_equal(data.Resize((20, 30))(part)[0], made)
    boxes = np.array([crop.box(1000, 20, same) for _ in range(20)])  # no box of that shape fits
    assert (boxes[:, 2] <= 1000).all() and (boxes[:, 3] <= 20).all() and (boxes[:, 2:] > 0).all()


def test_colour_changes_one_by_one() -> None:
    x = (pictures(6).astype(np.float32) + 1) / 257
    luminance = np.array([0.299, 0.587, 0.114]).reshape(3, 1, 1)
    grey = (x * luminance).sum(axis=1, keepdims=True)
    cases = [
        (data.ColorJitter(brightness=(1.5, 1.5)), 1.5 * x),
        (data.ColorJitter(contrast=(0.5, 0.5)), (x + grey.mean((1, 2, 3), keepdims=True)) / 2),
        (data.ColorJitter(saturation=(0, 0)), np.broadcast_to(grey, x.shape)),
        (data.ColorJitter(saturation=(2, 2)), 2 * x - grey),
        (data.RandomGrayscale(1), np.broadcast_to(grey, x.shape)),
        (data.ColorJitter(), x),
    ]
    for transform, expected in cases:
        np.testing.assert_allclose(transform(x, rng()), expected.clip(0, 1), atol=2e-6)


def test_hue_turns_as_in_the_standard_library() -> None:
    import colorsys

    x = rng(2).random((2, 3, 9, 9)).astype(np.float32)
    x[0, :, 0, 0] = 0.5, 0.5, 0.5
    x[0, :, 0, 1] = 0, 0, 0
    for turn in (-0.5, -0.2, 0.1, 1 / 3, 0.5):
        y = data.ColorJitter(hue=(turn, turn))(x, rng())
        for before, after in zip(
            x.transpose(0, 2, 3, 1).reshape(-1, 3),
            y.transpose(0, 2, 3, 1).reshape(-1, 3),
            strict=True,
        ):
            h, s, v = colorsys.rgb_to_hsv(*before.tolist())
            np.testing.assert_allclose(after, colorsys.hsv_to_rgb((h + turn) % 1, s, v), atol=1e-5)


def test_erasing_covers_one_rectangle() -> None:
    x = np.full((200, 3, 20, 20), 9, np.uint8)
    y = data.RandomErasing(p=0.5, scale=(0.1, 0.2), value=3)(x, rng())
    hit = (y == 3).any(axis=(1, 2, 3))
    assert 0.35 < hit.mean() < 0.65
    for image in y[hit]:
        rows, columns = (np.flatnonzero((image[0] == 3).any(axis=a)) for a in (1, 0))
        assert (image[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] == 3).all()
        assert (image == 3).sum() == 3 * len(rows) * len(columns)
        assert 0.05 < (image[0] == 3).mean() < 0.25


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: data.RandomHorizontalFlip(1.5), "probability"),
        (lambda: data.RandomVerticalFlip(-1), "probability"),
        (lambda: data.RandomCrop(0), "size"),
        (lambda: data.RandomCrop((1, 2, 3)), "height, width"),  # type: ignore[arg-type]
        (lambda: data.RandomCrop(3, padding=-1), "padding"),
        (lambda: data.RandomResizedCrop(scale=(0.5, 2)), "scale"),
        (lambda: data.RandomResizedCrop(ratio=(2, 1)), "ratio"),
        (lambda: data.Resize(-1), "size"),
        (lambda: data.ColorJitter(brightness=-1), "brightness"),
        (lambda: data.ColorJitter(contrast=(2, 1)), "contrast"),
        (lambda: data.ColorJitter(hue=0.7), "hue"),
        (lambda: data.RandomErasing(value="noise"), "random"),
        (lambda: data.ColorJitter(0.1)(np.zeros((2, 4, 8, 8), np.uint8), rng()), "1 or 3"),
    ],
    ids=range(13),
)
def test_transforms_refuse(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
