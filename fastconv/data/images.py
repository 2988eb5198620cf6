"""Opening a picture of any kind that Pillow reads: upright, whole, in eight bits.

What can go wrong with a file from somewhere is turned into one error that names it: no picture,
cut short, damaged, or so large that it must be an attack (a few kilobytes of PNG can claim a
gigapixel).
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import CorruptFileError

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["MAX_PIXELS", "eight_bits", "open_image", "upright"]

MAX_PIXELS = 1 << 27  # 134 million: more than cameras make, 400 MB when decoded
# Pixels that a byte of a file may hold; plain areas have at most 512 and 8,256.
_MAX_DENSITY = {"JPEG": 1 << 12, "MPO": 1 << 12, "PNG": 1 << 14}
_OF_A_PLACE = (errno.EINVAL, errno.EOVERFLOW)  # errors of seeking where a damaged header points
_SCALABLE = ("JPEG", "MPO")  # whose decoder can leave out detail, and know their EXIF data at once
_ORIENTATION = 0x0112  # EXIF
_SIDEWAYS = (5, 6, 7, 8)  # orientations that swap height and width
_WITH_ALPHA = ("LA", "RGBA", "PA", "La", "RGBa")


def open_image(
    path: str | os.PathLike[str],
    *,
    shrink: Callable[[int, int], float] | None = None,
    max_pixels: int = MAX_PIXELS,
) -> Image.Image:
    """A picture from a file, decoded to its end and turned upright as its EXIF data say.

    Args:
        path: A file of any format that Pillow reads; told by its contents, not by its name. "~" is
            the user's home.
        shrink: For JPEGs: called with the (height, width) of the upright picture, says how many
            times smaller it may become. It is then decoded at 1/2, 1/4 or 1/8 of its size, which is
            much quicker for a large photograph that becomes a small picture.
        max_pixels: Refuse larger pictures before decoding them.

    Returns:
        A `PIL.Image.Image`, in the mode of the file.

    Raises:
        OSError: The file cannot be opened.
        CorruptFileError: It is not a picture, no file (a pipe, a device), empty, cut short,
            damaged, or too large.
        MemoryError: There is none for so many pixels.
        ImportError: Pillow is not installed.

    Example::

        image = fastconv.data.open_image("photo.jpg")
    """
    Image = pillow()
    name = os.path.expanduser(os.fspath(path))
    mode = os.stat(name).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # opening a pipe would wait for a writer
        raise CorruptFileError(f"[image] {name}: a pipe, socket or device, no file")
    with open(name, "rb") as file:
        try:
            with Image.open(file) as image:
                _check_size(name, image, os.fstat(file.fileno()).st_size, max_pixels)
                if shrink is not None:
                    _shrink(image, shrink)
                image.load()
                return upright(image)
        except CorruptFileError:
            raise
        except MemoryError:
            raise MemoryError(f"[image] {name}: there is no memory for its pixels") from None
        except Image.UnidentifiedImageError:
            empty = os.fstat(file.fileno()).st_size == 0
            what = "the file is empty" if empty else "not an image that Pillow can read"
            raise CorruptFileError(f"[image] {name}: {what}") from None
        except (Image.DecompressionBombError, Image.DecompressionBombWarning):
            raise CorruptFileError(f"[image] {name}: its header claims too many pixels") from None
        except Exception as error:
            # Damaged files raise whatever the decoder stumbled over: OSError, SyntaxError,
            # struct.error, zlib.error and more. Errors of the system carry a number.
            number = error.errno if isinstance(error, OSError) else None
            if number is not None and number not in _OF_A_PLACE:
                raise
            raise CorruptFileError(f"[image] {name}: damaged image ({error})") from None


def _check_size(name: str, image: Image.Image, stored: int, max_pixels: int) -> None:
    """Raises CorruptFileError for what shall not be decoded; `stored`: the bytes of the file."""
    if image.format == "EPS":  # decoding would run it, in Ghostscript
        raise CorruptFileError(f"[image] {name}: PostScript is a program, no picture")
    width, height = image.size
    density = _MAX_DENSITY.get(image.format or "", max_pixels)
    if width * height > stored * density:
        raise CorruptFileError(
            f"[image] {name}: its header claims {width} x {height} pixels, more than "
            f"{stored:,} bytes hold"
        )
    if width * height > max_pixels:
        raise CorruptFileError(
            f"[image] {name}: {width} x {height} pixels are too many (at most {max_pixels:,})"
        )


def _shrink(image: Image.Image, shrink: Callable[[int, int], float]) -> None:
    """Has a JPEG decoded at its smallest size that is not below the requested one."""
    if image.format in _SCALABLE:
        width, height = image.size
        sideways = _orientation(image) in _SIDEWAYS
        times = shrink(width, height) if sideways else shrink(height, width)
        if times >= 2:
            image.draft(None, (int(width / times), int(height / times)))


def upright(image: Image.Image) -> Image.Image:
    """The picture turned as its EXIF orientation says; EXIF data that cannot be read count for
    nothing."""
    from PIL import ImageOps

    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # as above: a decoder of many formats, fed with damaged bytes
        return image


def _orientation(image: Image.Image) -> object:
    try:
        return image.getexif().get(_ORIENTATION)
    except Exception:  # as above
        return None


def eight_bits(image: Image.Image, mode: str = "RGB") -> Image.Image:
    """Any picture in mode "RGB" or "L", eight bits a value.

    Transparent parts show white behind them; 16-bit, integer and float greys are scaled by their
    range (to 1, 255 or 65535, whichever holds the brightest value); CMYK, palettes and other colour
    spaces are converted.

    Example:
        >>> from PIL import Image
        >>> half = Image.new("I;16", (2, 1), 32896)
        >>> eight_bits(half).getpixel((0, 0))
        (128, 128, 128)
    """
    Image = pillow()
    if image.mode.startswith(("I", "F")):
        values: NDArray[Any] = np.nan_to_num(np.asarray(image).astype(np.float32))
        high = float(values.max(initial=0))
        top = 65535 if image.mode.startswith("I;16") or high > 255 else 255 if high > 1 else 1
        image = Image.fromarray(np.rint(values.clip(0, top) * (255 / top)).astype(np.uint8))
    elif image.mode in _WITH_ALPHA or "transparency" in image.info:
        colours = image.convert("RGBA")
        ground = Image.new("RGBA", colours.size, "white")
        ground.alpha_composite(colours)
        image = ground
    return image if image.mode == mode else image.convert(mode)


def pillow() -> Any:
    """The module `PIL.Image`; says how to install Pillow where it is missing."""
    try:
        import PIL.Image
    except ImportError:
        raise ImportError("reading images needs Pillow: pip install 'fastconv[images]'") from None
    return PIL.Image
