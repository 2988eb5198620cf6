"""Names and texts that come from files, servers and other people's folders."""

from __future__ import annotations

import re
import unicodedata

__all__ = ["check_file_name", "printable"]

_LONGEST = 200  # bytes of a name: file systems take 255, and a part of a download has a longer one
# Names that stand for devices on Windows, whatever their extension.
_DEVICE = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
_SHOWN = 60  # characters of a refused name that the error repeats
# Control characters, surrogates, line and paragraph separators, and the formatting characters that
# turn the direction of what follows.
_UNSEEN = ("Cc", "Cs", "Zl", "Zp")
_TURNING = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def check_file_name(name: object) -> str:
    r"""A name that stays in the folder it is joined to, on every system; the same text.

    Whoever writes a registry or a manifest must not choose another folder than ours, nor a hidden
    file: no separators, no drive letters, no "..", no dot in front, no control characters.

    Raises:
        ValueError: It is anything else; says what.

    Example:
        >>> check_file_name("group1-shard1of1.bin")
        'group1-shard1of1.bin'
        >>> check_file_name("../.bashrc")
        Traceback (most recent call last):
        ValueError: the file name '../.bashrc' begins with a dot
    """
    if not isinstance(name, str):
        raise ValueError(f"a file name must be a text, got {type(name).__name__}")
    fault = _fault(name)
    if fault:
        shown = name if len(name) <= _SHOWN else f"{name[:_SHOWN]}..."
        raise ValueError(f"the file name '{printable(shown)}' {fault}")
    return name


def _fault(name: str) -> str:
    """Why a name is not plain; "": it is."""
    if not name:
        return "is empty"
    if name.startswith("."):
        return "begins with a dot"
    if any(separator in name for separator in "/\\"):
        return "leads to another folder"
    if ":" in name:
        return "has a colon, as drives have"
    if printable(name) != name:
        return "has control characters"
    if name != name.rstrip(" .") or name != name.lstrip():
        return "begins or ends with a blank or ends with a dot"
    if _DEVICE.fullmatch(name):
        return "is that of a device"
    if len(name.encode()) > _LONGEST:
        return f"has more than {_LONGEST} bytes"
    return ""


def printable(text: object, keep: str = "") -> str:
    r"""A text as a terminal may show it: control characters become visible escapes.

    An escape sequence in the name of a class could otherwise clear the screen, or write something
    else over what was said. Bytes of a file name that no encoding explains are shown as such.

    Args:
        text: Anything with a text.
        keep: Control characters that stay, such as a newline.

    Example:
        >>> printable("cat\x1b[2J\n")
        'cat\\x1b[2J\\n'
        >>> printable("caf\udce9.png")
        'caf\\xe9.png'
    """
    return "".join(c if c in keep else _visible(c) for c in str(text))


def _visible(character: str) -> str:
    if unicodedata.category(character) not in _UNSEEN and character not in _TURNING:
        return character
    if "\udc80" <= character <= "\udcff":  # a byte that could not be decoded
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")
