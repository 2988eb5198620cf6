"""Pictures from files: every kind of them, damaged ones too; preprocessing; folders of classes."""

from __future__ import annotations

import contextlib
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastconv as fc
from fastconv import data
from fastconv.data import BadImageWarning, ImageFolder, Preprocessing, open_image
from fastconv.data.images import eight_bits
from tests.support import assert_same_bits

Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")

BYTES = Preprocessing(size=32, resize=32, mean=(0.0,), std=(1.0,))


def scene(height: int = 60, width: int = 80) -> np.ndarray:
    """A smooth picture (H, W, 3) without symmetry: red grows to the right, green downwards."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    blue = 127 + 120 * np.sin(x / 9) * np.cos(y / 7)
    return np.stack([x * 255 / width, y * 255 / height, blue], axis=-1).astype(np.uint8)


def save(path: Path, pixels: Any = None, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(scene() if pixels is None else pixels).save(path, **options)
    return path


def png_claiming(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header promises this size."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(bytes(100))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    )


def jpeg_claiming(whole: bytes, width: int, height: int) -> bytes:
    """A JPEG with this size in its header."""
    frame = whole.index(b"\xff\xc0") + 5
    return whole[:frame] + struct.pack(">HH", height, width) + whole[frame + 4 :]


# ----------------------------------------------------------------------------------- one picture


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_undone(orientation: int, tmp_path: Path) -> None:
    """A camera that was held sideways stores turned pixels and says so."""
    upright = Image.fromarray(scene())
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # transposes that give the stored picture
    stored = upright
    if orientation > 1:
        stored = upright.transpose(Image.Transpose(undo[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "turned.png", exif=exif)
    np.testing.assert_array_equal(np.asarray(open_image(tmp_path / "turned.png")), scene())
    stored.resize((stored.width * 20, stored.height * 20)).save(tmp_path / "turned.jpg", exif=exif)
    frame = BYTES.frame(tmp_path / "turned.jpg")  # decoded at a fraction of its size
    straight = BYTES.frame(upright.resize((1600, 1200)))
    assert np.abs(frame.astype(int) - straight).mean() < 2


def test_every_mode_becomes_rgb(tmp_path: Path) -> None:
    colours = Image.fromarray(scene())
    grey = np.asarray(colours.convert("L"))
    for mode in ("1", "L", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "LA"):
        picture = colours.convert("L").convert(mode) if mode == "LAB" else colours.convert(mode)
        frame = BYTES.frame(picture) if mode != "LAB" else BYTES.frame(Image.new("LAB", (9, 9)))
        assert frame.shape == (3, 32, 32) and frame.dtype == np.uint8 and frame.flags.c_contiguous
    for name in ("p.png", "cmyk.jpg", "grey.jpg", "x.bmp", "x.gif", "x.webp", "x.tif", "x.ppm"):
        mode = {"p.png": "P", "cmyk.jpg": "CMYK", "grey.jpg": "L", "x.gif": "P"}.get(name, "RGB")
        colours.convert(mode).save(tmp_path / name)
        difference = BYTES.frame(tmp_path / name).astype(int) - BYTES.frame(scene())
        expected = 60 if mode == "L" else 22 if mode == "P" else 8  # of 256: palettes are coarse
        assert np.abs(difference).mean() < expected, name
    deep = (grey.astype(np.uint16) * 257).astype("<u2")
    Image.fromarray(deep).save(tmp_path / "deep.png")
    np.testing.assert_array_equal(
        np.asarray(eight_bits(open_image(tmp_path / "deep.png"), "L")), grey
    )
    for values in (grey.astype(np.float32) / 255, grey.astype(np.float32), grey.astype(np.int32)):
        np.testing.assert_array_equal(np.asarray(eight_bits(Image.fromarray(values), "L")), grey)


def test_transparent_parts_show_white(tmp_path: Path) -> None:
    pixels = np.zeros((4, 4, 4), np.uint8)
    pixels[:2, :, 3] = 255  # black above, nothing below
    for mode, name in (("RGBA", "a.png"), ("LA", "b.png"), ("RGBA", "c.webp")):
        Image.fromarray(pixels).convert(mode).save(tmp_path / name, lossless=True)
        values = np.asarray(eight_bits(open_image(tmp_path / name)))
        assert (values[:2] == 0).all() and (values[2:] == 255).all()
    palette = Image.fromarray(np.array([[0, 1]], np.uint8))
    palette = palette.convert("P")
    palette.info["transparency"] = 1
    palette.save(tmp_path / "p.png", transparency=1)
    assert np.asarray(eight_bits(open_image(tmp_path / "p.png")))[0, 1].tolist() == [255] * 3


def damaged_files(folder: Path) -> dict[str, Path]:
    """Files that look like pictures and are none, or not whole."""
    whole = save(folder / "whole.jpg", quality=95).read_bytes()
    png = save(folder / "whole.png").read_bytes()
    middle = len(png) // 2
    contents = {
        "empty.jpg": b"",
        "text.jpg": b"this is not a picture",
        "page.png": b"<!DOCTYPE html><html>404</html>",
        "start.jpg": whole[:3],
        "header.jpg": whole[:300],
        "half.jpg": whole[: len(whole) // 2],
        "half.png": png[:middle],
        "checksum.png": png[:middle] + bytes(8) + png[middle + 8 :],
        "zeros.png": png[:40] + bytes(len(png) - 40),
        "huge.png": png_claiming(100_000, 100_000),
        "large.png": png_claiming(15_000, 10_000),
        "drawing.jpg": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n",
        "negative.bmp": save(folder / "x.bmp").read_bytes()[:18] + b"\xff" * 8,
        "cut.gif": save(folder / "x.gif").read_bytes()[:20],
        "cut.tif": save(folder / "x.tif").read_bytes()[:100],
        "claims.jpg": jpeg_claiming(whole, 11_000, 11_000),
        "cut.webp": save(folder / "x.webp").read_bytes()[:100],
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    for name in ("whole.jpg", "whole.png", "x.bmp", "x.gif", "x.tif", "x.webp"):
        (folder / name).unlink()
    return {name: folder / name for name in contents}


def test_damaged_pictures_are_one_error(tmp_path: Path) -> None:
    for name, path in damaged_files(tmp_path).items():
        with pytest.raises(fc.CorruptFileError, match=name):
            open_image(path)
    with pytest.raises(FileNotFoundError):
        open_image(tmp_path / "missing.jpg")
    with pytest.raises(OSError):  # noqa: PT011  (a folder: another errno on each system)
        open_image(tmp_path)


def test_damage_anywhere_is_an_error_or_a_picture(tmp_path: Path) -> None:
    """JPEG, PNG and TIFF with random bytes changed: CorruptFileError, or other pixels."""
    rng = np.random.default_rng(0)
    for name in ("a.jpg", "a.png", "a.tif", "a.gif"):
        whole = save(tmp_path / name, scene(20, 30)).read_bytes()
        for _ in range(60):
            content = np.frombuffer(whole, np.uint8).copy()
            places = rng.integers(0, len(content), rng.integers(1, 6))
            content[places] = rng.integers(0, 256, len(places))
            (tmp_path / name).write_bytes(content.tobytes()[: rng.integers(1, len(content) + 1)])
            with contextlib.suppress(fc.CorruptFileError, MemoryError):
                assert open_image(tmp_path / name).width > 0


def test_no_memory_for_one_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is left out of a folder and named; alone it is a MemoryError that names it."""
    from PIL import ImageFile

    pictures(tmp_path, 2)
    save(tmp_path / "cat" / "large.png", scene(100, 100))
    load = ImageFile.ImageFile.load

    def limited(image: Any) -> Any:
        if image.height == 100:
            raise MemoryError
        return load(image)

    monkeypatch.setattr(ImageFile.ImageFile, "load", limited)
    with pytest.raises(MemoryError, match=r"large\.png: there is no memory"):
        open_image(tmp_path / "cat" / "large.png")
    with pytest.warns(BadImageWarning, match=r"large\.png: there is no memory"):
        assert len(ImageFolder(tmp_path, BYTES).arrays()[0]) == 4


def test_name_does_not_matter_and_pixels_are_limited(tmp_path: Path) -> None:
    save(tmp_path / "a.png").rename(tmp_path / "really-a-png.jpg")
    assert open_image(tmp_path / "really-a-png.jpg").size == (80, 60)
    with pytest.raises(fc.CorruptFileError, match=r"80 x 60 pixels.*at most 1,000"):
        open_image(tmp_path / "really-a-png.jpg", max_pixels=1000)


# --------------------------------------------------------------------------------- preprocessing


def test_scale_and_shift_are_mean_and_std() -> None:
    x = data.IMAGENET(np.full((256, 256, 3), 255, np.uint8)).numpy()
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    np.testing.assert_allclose(x[0, :, 0, 0], (1 - mean) / std, rtol=1e-5)
    x = data.TENSORFLOW(np.zeros((256, 300), np.uint8)).numpy()
    assert x.shape == (1, 3, 224, 224) and (x == -1).all()
    assert data.CIFAR10.scale.shape == data.CIFAR10.shift.shape == (3,)


@pytest.mark.parametrize("size", [(480, 360), (301, 512), (224, 224), (30, 17), (256, 1000)])
def test_frame_is_resize_then_centre_crop(size: tuple[int, int]) -> None:
    """As everybody does it: shorter side 256 in whole pixels, then 224 x 224 of the middle."""
    picture = Image.fromarray(scene(*size))
    scale = 256 / min(size)
    width, height = int(picture.width * scale + 1e-6), int(picture.height * scale + 1e-6)
    left, top = round((width - 224) / 2), round((height - 224) / 2)
    large = picture.resize((width, height), Image.Resampling.BICUBIC)
    expected = np.asarray(large.crop((left, top, left + 224, top + 224))).transpose(2, 0, 1)
    difference = np.abs(data.IMAGENET.frame(picture).astype(int) - expected)
    assert difference.max() <= 2 and difference.mean() < 0.02, "two ways of rounding coordinates"


def test_channels_stretching_and_boxes() -> None:
    pixels = scene()
    rgb = Preprocessing(size=(60, 80), resize=None)
    np.testing.assert_array_equal(rgb.frame(pixels), pixels.transpose(2, 0, 1))
    bgr = Preprocessing(size=(60, 80), resize=None, channels="BGR")
    np.testing.assert_array_equal(bgr.frame(pixels), pixels.transpose(2, 0, 1)[::-1])
    grey = Preprocessing(size=30, resize=None, channels="L", mean=0.5, std=0.5)  # type: ignore[arg-type]
    assert grey.frame(pixels).shape == (1, 30, 30) and grey.scale.shape == (1,)
    wide = Preprocessing(size=(10, 40), resize=20)
    assert wide.frame(pixels).shape == (3, 10, 40)
    part = rgb.frame(pixels, lambda height, width: (10, 20, 30, 40))
    whole = np.asarray(Image.fromarray(pixels[10:40, 20:60]).resize((80, 60), 3))
    assert (
        np.abs(part[:, 5:-5, 5:-5].astype(int) - whole.transpose(2, 0, 1)[:, 5:-5, 5:-5]).max() < 2
    )


def test_large_jpegs_are_decoded_smaller(tmp_path: Path) -> None:
    """The result stays that of the whole picture, to a level or two."""
    path = save(tmp_path / "large.jpg", scene(1200, 1600), quality=95)
    whole = data.IMAGENET.frame(Image.open(path))
    assert np.abs(data.IMAGENET.frame(path).astype(int) - whole).mean() < 1
    assert open_image(path, shrink=lambda height, width: 4.5).size == (400, 300)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"size": 0}, "size"),
        ({"size": (3, 4, 5)}, "size"),
        ({"size": 2.5}, "size"),
        ({"resize": 100}, "resize=100 is less"),
        ({"resize": "256"}, "resize"),
        ({"interpolation": "cubic"}, "'bicubic'"),
        ({"channels": "RGBA"}, "'BGR'"),
        ({"mean": (1, 2)}, "2 values, expected 1 or 3"),
        ({"std": 0}, "above 0"),
        ({"std": float("nan")}, "finite"),
        ({"mean": None}, "mean"),
        ({"colour": "red"}, "unknown colour; known are size"),
    ],
)
def test_preprocessing_refuses(fields: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        Preprocessing.from_dict(fields)


def test_preprocessing_as_json() -> None:
    import json

    for recipe in (data.IMAGENET, data.TENSORFLOW, data.CIFAR10, Preprocessing(64, None)):  # type: ignore[arg-type]
        assert Preprocessing.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe


@pytest.mark.parametrize(
    ("picture", "error", "message"),
    [
        (np.zeros((3, 32, 32), np.uint8), ValueError, r"transpose\(1, 2, 0\)"),
        (np.zeros((2, 32, 32, 3), np.uint8), ValueError, "one by one"),
        (np.zeros((32, 32), np.float32), TypeError, "uint8"),
        (np.zeros((0, 5), np.uint8), ValueError, "empty"),
        (7, TypeError, "int"),
    ],
    ids=range(5),
)
def test_what_is_no_picture(picture: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        data.IMAGENET(picture)


# --------------------------------------------------------------------------------------- folders


def pictures(root: Path, count: int = 12) -> Path:
    """Two classes of small pictures, each of its own colour so that its place can be told."""
    for label, name in enumerate(("cat", "dog")):
        for i in range(count):
            level = 10 + 120 * label + 5 * i
            save(root / name / f"{i:02}.png", np.full((40, 50, 3), level, np.uint8))
    return root


def test_image_folder(tmp_path: Path) -> None:
    pictures(tmp_path)
    save(tmp_path / "dog" / "deeper" / "JPEG.JPG")
    for ignored in ("cat/.hidden.png", ".git/x.png", "dog/.cache/x.png"):
        save(tmp_path / ignored)
    (tmp_path / "cat" / "notes.txt").write_text("no picture")
    (tmp_path / "README.md").write_text("beside the classes")
    folder = ImageFolder(tmp_path, BYTES)
    assert folder.classes == ["cat", "dog"] and len(folder) == 25
    assert folder.targets.tolist() == [0] * 12 + [1] * 13
    image, label = folder[3]
    assert image.shape == (3, 32, 32) and image.dtype == np.uint8 and (image == 25).all()
    assert label == 0 and folder[-1][1] == 1
    x, y = folder.arrays()
    assert x.shape == (25, 3, 32, 32) and x[:12, 0, 0, 0].tolist() == [
        10 + 5 * i for i in range(12)
    ]
    np.testing.assert_array_equal(y, folder.targets)
    only_dogs = ImageFolder(tmp_path, BYTES, classes=["dog"])
    assert len(only_dogs) == 13 and set(only_dogs.targets) == {0}
    held = ImageFolder(tmp_path, BYTES, in_memory=True)
    assert_same_bits(held.arrays()[0], x)
    assert_same_bits(held[5][0], x[5])


@pytest.mark.filterwarnings("ignore:Truncated File Read", "ignore:Image size")  # Pillow's
def test_bad_pictures_are_counted_and_named_once(tmp_path: Path) -> None:
    pictures(tmp_path, 8)
    damaged = damaged_files(tmp_path / "cat")
    folder = ImageFolder(tmp_path, BYTES)
    assert len(folder) == 16 + len(damaged) - 1, "an empty file is not even tried"
    loader = data.Loader(folder, batch_size=5)
    for passes in range(2):
        if passes == 0:
            with pytest.warns(BadImageWarning, match=f"{len(damaged)} pictures") as warned:
                batches = list(loader)
            (ours,) = [w.message for w in warned if w.category is BadImageWarning]
            assert f"and {len(damaged) - 5} more" in str(ours)
        else:
            batches = list(loader)  # the same ones again: nothing new to say
        seen = np.concatenate([y for _, y in batches])
        assert np.bincount(seen).tolist() == [8, 8]
    assert sorted(Path(path).name for path, _ in folder.bad) == sorted(damaged)
    levels = np.concatenate([x.numpy()[:, 0, 0, 0] * 255 for x, _ in batches])
    np.testing.assert_allclose(
        np.sort(levels), [10 + 120 * c + 5 * i for c in (0, 1) for i in range(8)]
    )
    with pytest.raises(fc.CorruptFileError):
        folder[next(i for i, path in enumerate(folder.paths) if path.endswith("half.png"))]
    with pytest.warns(BadImageWarning):
        held = ImageFolder(tmp_path, BYTES, in_memory=True)
    assert len(held) == len(held.paths) == len(held.targets) == 16
    empty = ImageFolder(tmp_path, BYTES, classes=["cat"]).subset(
        [i for i, path in enumerate(folder.paths[: len(damaged)]) if Path(path).name in damaged]
    )
    with pytest.raises(fc.CorruptFileError, match="none of"):
        empty.arrays()
    with pytest.raises(fc.CorruptFileError, match="none of"), pytest.warns(BadImageWarning):
        list(data.Loader(empty))


def test_image_folder_says_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such folder"):
        ImageFolder(tmp_path / "missing")
    with pytest.raises(FileNotFoundError, match=r"no class folders, found nothing.*cat/1\.jpg"):
        ImageFolder(tmp_path)
    save(tmp_path / "loose.png")
    with pytest.raises(FileNotFoundError, match=r"found loose\.png"):
        ImageFolder(tmp_path)
    with pytest.raises(FileNotFoundError, match="is not a folder"):
        ImageFolder(tmp_path / "loose.png")
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "a.txt").write_text("")
    with pytest.raises(FileNotFoundError, match=r"cat: no pictures, found a\.txt"):
        ImageFolder(tmp_path)
    save(tmp_path / "cat" / "a.png")
    with pytest.raises(FileNotFoundError, match=r"for the class bird; found cat/"):
        ImageFolder(tmp_path, classes=["cat", "bird"])
    with pytest.raises(ValueError, match="in_memory"):
        ImageFolder(tmp_path, in_memory=True, augment=True)
    with pytest.raises(TypeError, match="transform"):
        ImageFolder(tmp_path, augment=data.RandomHorizontalFlip())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="Preprocessing"):
        ImageFolder(tmp_path, 224)  # type: ignore[arg-type]


def test_augmented_reading_does_not_depend_on_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same seed gives the same batches with 2, 3 and 7 threads, and behind skipped batches."""
    from fastconv.data import loader as module

    for i in range(20):
        save(tmp_path / "a" / f"{i}.jpg", scene(50 + i, 70))
    folder = ImageFolder(tmp_path, BYTES, augment=True)
    loader = data.Loader(
        folder, batch_size=3, shuffle=True, transform=[data.RandomHorizontalFlip()]
    )
    runs = []
    for threads in (2, 3, 7):
        monkeypatch.setattr(module, "cores", lambda n=threads: n)
        fc.manual_seed(5)
        runs.append(np.concatenate([x.numpy() for x, _ in loader]))
    fc.manual_seed(5)
    runs.append(np.concatenate([runs[0][:12], *[x.numpy() for x, _ in loader.batches(skip=4)]]))
    for run in runs[1:]:
        assert_same_bits(run, runs[0])
    again = np.concatenate([x.numpy() for x, _ in loader])
    assert (again != runs[0]).any(), "another pass, other parts"


def test_subset_and_split(tmp_path: Path) -> None:
    folder = ImageFolder(pictures(tmp_path, 10), BYTES)
    rest, part = folder.split(0.3, seed=1)
    assert len(rest) == 14 and len(part) == 6
    assert np.bincount(part.targets).tolist() == [3, 3]
    assert set(rest.paths) | set(part.paths) == set(folder.paths)
    assert folder.split(0.3, seed=1)[1].paths == part.paths
    assert folder.split(0.3, seed=2)[1].paths != part.paths
    last = folder.subset([-1, 0])
    assert last.targets.tolist() == [1, 0] and last.paths[0] == folder.paths[-1]
    for share in (0, 1, 0.01):
        with pytest.raises(ValueError, match=r"share|nothing"):
            folder.split(share)


# ------------------------------------------------------------------------------------- real data


def test_cats_and_dogs(data_folder: Path) -> None:
    """The files of the test folder are all good; augmented frames are parts of the pictures."""
    root = data_folder / "cats-dogs" / "test"
    if not root.is_dir():
        pytest.skip("real data: $FASTCONV_DATA has no cats-dogs/")
    folder = ImageFolder(root, data.TENSORFLOW)
    assert folder.classes == ["cat", "dog"] and np.bincount(folder.targets).tolist() == [500, 500]
    part = folder.subset(range(0, 1000, 20))
    x, y = part.arrays()
    assert x.shape == (50, 3, 224, 224) and y.tolist() == [0] * 25 + [1] * 25 and not part.bad
    part.augment = data.RandomResizedCrop(scale=(0.3, 0.6))
    loader = data.Loader(part, batch_size=10)
    colours = np.concatenate([b.numpy().mean(axis=(2, 3)) for b, _ in loader])
    whole = x.mean(axis=(2, 3)) / 127.5 - 1
    assert np.corrcoef(colours.ravel(), whole.ravel())[0, 1] > 0.8


def test_photographs_as_mobilenet_saw_them(data_folder: Path) -> None:
    """Preprocessing alone, JPEG shrinking included, moves no probability by more than 0.02."""
    from fastconv import functional as F
    from fastconv import models
    from tests.test_pretrained import PHOTOS

    weights = data_folder / "weights"
    if not weights.is_dir():
        pytest.skip("real data: $FASTCONV_DATA has no weights/")
    classes = (weights / "imagenet_classes.txt").read_text().splitlines()
    model = models.mobilenet_v1(width=0.75, weights=weights / "mobilenet_v1_0.75_224.safetensors")
    model.eval()
    with fc.no_grad():
        x = data.TENSORFLOW(*[data_folder / "photos" / f"{name}.jpg" for name in PHOTOS])
        probabilities = F.softmax(model(x), dim=1).numpy()
    for expected, row in zip(PHOTOS.values(), probabilities, strict=True):
        found = [row[classes.index(name)] for name in expected]
        np.testing.assert_allclose(found, list(expected.values()), rtol=0, atol=0.02)
