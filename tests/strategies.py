"""Random convolution shapes for hypothesis: small, but with every kind of edge."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from tests.shapes import Conv
from tests.support import LANES

BATCHES = st.sampled_from([1, 2, 3, LANES - 1, LANES, LANES + 1, 2 * LANES + 1])
SEEDS = st.integers(0, 2**32 - 1)


@st.composite
def convs(
    draw: st.DrawFn,
    max_stride: int = 3,
    max_dilation: int = 3,
    max_groups: int = 4,
    max_pad: int = 4,
) -> Conv:
    """A case whose kernel fits its padded image; one of three depthwise, most of these without
    dilation and with one stride for both axes."""
    depthwise = draw(st.sampled_from([False, False, True]))
    plain = depthwise and draw(st.sampled_from([False, True, True]))
    groups = draw(st.integers(1, max_groups))
    per_group = st.just(1) if depthwise else st.integers(1, 7)
    kernel = (draw(st.integers(1, 5)), draw(st.integers(1, 5)))
    dilations = st.just(1) if plain else st.integers(1, max_dilation)
    dilation = (draw(dilations), draw(dilations))
    strides = st.integers(1, max_stride)
    stride = draw(strides)
    pads = tuple(draw(st.integers(0, max_pad)) for _ in range(4))
    spans = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    height = draw(st.integers(max(1, spans[0] - pads[0] - pads[1]), spans[0] + 9))
    width = draw(st.integers(max(1, spans[1] - pads[2] - pads[3]), spans[1] + 20))
    return Conv(
        "random",
        (draw(BATCHES), groups * draw(per_group), height, width),
        groups * draw(per_group),
        kernel,
        (stride, stride if plain else draw(strides)),
        pads,  # type: ignore[arg-type]
        dilation,
        groups,
    )


def generator(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)
