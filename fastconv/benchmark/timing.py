"""How time is measured: short bursts in turn, and what is made of them.

A burst is one untimed call (caches and sleeping threads are as the others left them) and then
timed calls until the burst is long enough. Contestants take turns, burst by burst, so that a slow
minute of the machine is everybody's slow minute; ratios are formed within a round, and their median
is quoted.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field

CHANCE = 0.01  # of calling a row slower that is not
WARM_CALL = 0.1  # seconds; a call longer than this needs no warm-up of its own


def burst(run: Callable[[], object], seconds: float) -> list[float]:
    """Seconds each timed call took; at least one, and at least `seconds` together."""
    clock = time.perf_counter
    start = clock()
    run()
    first = clock() - start
    times = [first] if first > WARM_CALL else []
    total = sum(times)
    while not times or total < seconds:
        start = clock()
        run()
        times.append(clock() - start)
        total += times[-1]
    return times


def wait_until_idle(limit: float = 0.1) -> bool:
    """Sleep until this process's threads have stopped spinning; False when they never do.

    Thread pools spin for a while after their last task. Whoever runs next must not pay for it.
    """
    deadline = time.perf_counter() + limit
    while time.perf_counter() < deadline:
        before = time.process_time()  # of all threads
        time.sleep(0.002)
        if time.process_time() - before < 0.0003:
            return True
    return False


@dataclass
class Times:
    """The bursts of one contestant; seconds a unit of work."""

    rounds: list[list[float]] = field(default_factory=list)

    @property
    def medians(self) -> list[float]:
        return [statistics.median(times) for times in self.rounds]

    @property
    def median(self) -> float:
        return statistics.median(self.medians)

    @property
    def minimum(self) -> float:
        return min(min(times) for times in self.rounds)


def ratio(theirs: Times, ours: Times) -> float:
    """Their time over ours, the median over the rounds both ran: above 1, ours is faster."""
    return statistics.median(t / o for t, o in zip(theirs.medians, ours.medians, strict=False))


def clearly_slower(new: Times, old: Times) -> bool:
    """Whether `new` lost so many rounds that chance does it once in a hundred times (sign test).

    The two ran next to each other in every round, so a slow minute of the machine is no evidence:
    it hits both. Seven rounds are the least that can tell anything, if all are lost; of 14, twelve.

    >>> old = Times([[1.0], [1.2], [1.0], [3.0], [1.0], [1.1], [1.0]])
    >>> clearly_slower(Times([[1.1], [1.3], [1.1], [3.2], [1.1], [1.2], [1.1]]), old)
    True
    >>> clearly_slower(Times([[1.1], [1.3], [1.1], [2.8], [1.1], [1.2], [1.1]]), old)
    False
    """
    pairs = list(zip(new.medians, old.medians, strict=True))
    lost = sum(n > o for n, o in pairs)
    by_chance = sum(math.comb(len(pairs), k) for k in range(lost, len(pairs) + 1))
    return by_chance <= CHANCE * 2.0 ** len(pairs)
