"""fastconv bench: layers and networks against the other libraries that are installed.

    fastconv bench                          layers, small networks, single images
    fastconv bench networks                 the networks of ImageNet
    fastconv bench layers --filter lenet    one suite, some rows
    fastconv bench --quick                  seconds, PyTorch (or NumPy) only
    fastconv bench --all                    the table of goals: everything that has one, met or not

bench/README.md in the repository says how time is measured and how to read the tables. This package
needs NumPy alone until run() is called: its workers load it in interpreters without fastconv.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .cases import SUITES
from .peers import NAMES

if TYPE_CHECKING:
    import argparse

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser, suite: str | None = None) -> None:
    """What `fastconv bench` takes; the scripts in bench/ give the suite themselves."""
    if suite is None:
        parser.add_argument(
            "suite",
            nargs="?",
            choices=(*SUITES, "all"),
            help="what to measure; default: all but networks, which take seconds a step",
        )
        parser.add_argument(
            "--all",
            action="store_true",
            help="the table of goals; goes on where an interrupted run of the same build stopped",
        )
    else:
        parser.set_defaults(suite=suite, all=False)
    parser.add_argument("--filter", metavar="REGEX", help="rows whose CASE@BATCH:WORK matches")
    parser.add_argument(
        "--quick", action="store_true", help="short bursts, one peer, nothing compiled"
    )
    _add_contestants(parser)
    _add_limits(parser)
    parser.add_argument(
        "--json",
        metavar="FILE",
        help="write everything measured there as well (--all: default fastconv-bench.json)",
    )
    parser.add_argument("--list", action="store_true", help="print the rows that would be measured")


def _add_contestants(parser: argparse.ArgumentParser) -> None:
    """Who takes part, and with what."""
    parser.add_argument(
        "--threads", type=int, metavar="N", help="for everyone; default: as fastconv chooses"
    )
    parser.add_argument(
        "--isa", choices=("scalar", "avx2", "avx512"), help="for fastconv; default: the best"
    )
    parser.add_argument(
        "--peers",
        metavar="NAMES",
        help=f"of {','.join(NAMES)}, or none; default: all that are installed",
    )
    parser.add_argument(
        "--peer-python",
        metavar="NAME=PATH",
        action="append",
        default=[],
        help="run a peer in that interpreter",
    )


def _add_limits(parser: argparse.ArgumentParser) -> None:
    """How long it may take."""
    parser.add_argument(
        "--rounds", type=int, metavar="N", help="bursts a contestant (default 5; quick 3)"
    )
    parser.add_argument(
        "--seconds",
        type=float,
        metavar="S",
        help="timed seconds a contestant and row (default 0.3; quick 0.1)",
    )
    parser.add_argument(
        "--limit",
        type=float,
        metavar="S",
        help="seconds a row may take; who is not ready by then is left out (default 600)",
    )


def run(args: argparse.Namespace) -> int:
    """The exit status: 0, 1 after a wrong answer or failure of fastconv, 2 for bad arguments."""
    from .runner import run as run_  # not for the workers

    return run_(args)
