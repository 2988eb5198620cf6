"""Named convolution cases: edges first, then layers of real networks, small for a quick oracle.

Cases from oneDNN's regression list (benchdnn, inputs/conv) are written in its own shape strings,
one bug of a real SIMD library each.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from fastconv import _core
from tests.reference import Pads, Pair, output_size


@dataclass(frozen=True)
class Conv:
    """x (N, IC, IH, IW), w (OC, IC/groups, KH, KW); pads (top, bottom, left, right)."""

    name: str
    x: tuple[int, int, int, int]
    OC: int
    kernel: Pair = (3, 3)
    stride: Pair = (1, 1)
    pads: Pads = (0, 0, 0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1

    @property
    def w(self) -> tuple[int, int, int, int]:
        return (self.OC, self.x[1] // self.groups, *self.kernel)

    @property
    def y(self) -> tuple[int, int, int, int]:
        top, bottom, left, right = self.pads
        OH = output_size(self.x[2], self.kernel[0], self.stride[0], top + bottom, self.dilation[0])
        OW = output_size(self.x[3], self.kernel[1], self.stride[1], left + right, self.dilation[1])
        return (self.x[0], self.OC, OH, OW)

    @property
    def geometry(self) -> tuple[Pair, Pads, Pair, int]:
        """Stride, pads, dilation, groups, as the oracle takes them."""
        return (self.stride, self.pads, self.dilation, self.groups)


def geometry(case: Conv) -> _core.Geometry:
    """The same for the core."""
    return _core.Geometry(*case.geometry)


def in_layout(case: Conv, layout: str) -> Conv:
    """The case as it can be in a layout: a batch of sixteen and more always runs in lanes."""
    return case if layout == "lanes" else replace(case, x=(min(case.x[0], 15), *case.x[1:]))


def same(p: int) -> Pads:
    return (p, p, p, p)


def onednn(text: str) -> Conv:
    """A case from oneDNN's shape string: a missing w is h and the other way round, dilation counts
    from 0; bottom and right pads are what the output size implies (none where rows stay unread)."""
    given = {key: int(value) for key, value in re.findall(r"([a-z]+)(\d+)", text)}

    def both(key: str, default: int) -> Pair:
        h, w = given.get(key + "h"), given.get(key + "w")
        if h is None and w is None:
            return (default, default)
        return (w if h is None else h, h if w is None else w)  # type: ignore[return-value]

    size, out, kernel, stride = both("i", 1), both("o", 1), both("k", 1), both("s", 1)
    before, holes = both("p", 0), both("d", 0)
    dilation = (holes[0] + 1, holes[1] + 1)
    after = [
        max(0, (out[i] - 1) * stride[i] + (kernel[i] - 1) * dilation[i] + 1 - size[i] - before[i])
        for i in (0, 1)
    ]
    case = Conv(
        text.replace(" ", "_"),
        (given.get("mb", 2), given["ic"], *size),
        given["oc"],
        kernel,
        stride,
        (before[0], after[0], before[1], after[1]),
        dilation,
        given.get("g", 1),
    )
    assert case.y[2:] == out, f"{text}: the shape string says {out}, the formula {case.y[2:]}"
    return case


EDGES = [
    Conv("one_pixel", (1, 1, 1, 1), 1, (1, 1)),
    Conv("one_output", (3, 2, 3, 3), 5),
    Conv("kernel_of_the_image", (17, 7, 5, 4), 13, (5, 4), stride=(2, 3)),
    Conv("kernel_of_few_images", (2, 19, 6, 7), 33, (6, 7)),
    Conv("batch_1", (1, 3, 9, 9), 4, pads=same(1)),
    Conv("batch_15", (15, 3, 6, 7), 5),
    Conv("batch_16", (16, 3, 6, 7), 5),
    Conv("batch_17", (17, 3, 6, 7), 5),
    Conv("batch_33", (33, 2, 5, 6), 3, pads=same(1)),
    Conv("channel_tails", (17, 7, 6, 6), 13),
    Conv("many_channels", (2, 150, 5, 5), 37, pads=same(1)),
    Conv("many_channels_1x1", (17, 300, 2, 3), 65, (1, 1)),
    Conv("channels_in_parts", (17, 700, 5, 5), 12, pads=same(1)),
    Conv("channels_in_parts_stride_2", (2, 520, 9, 9), 20, stride=(2, 2), pads=same(1)),
    Conv("outputs_in_parts", (3, 12, 5, 5), 700, pads=same(1)),
    Conv("outputs_in_parts_stride_2", (2, 20, 9, 9), 900, stride=(2, 2), pads=same(1)),
    Conv("width_tails", (17, 2, 3, 31), 3),
    Conv("row_kernel", (16, 3, 4, 20), 5, (1, 7), pads=(0, 0, 3, 3)),
    Conv("column_kernel", (16, 3, 20, 4), 5, (7, 1), pads=(3, 3, 0, 0)),
    Conv("even_kernel_same", (5, 3, 7, 8), 4, (4, 2), pads=(1, 2, 0, 1)),
    Conv("pad_one_side", (17, 2, 5, 6), 3, pads=(2, 0, 0, 2)),
    Conv("column_kernel_padding_below", (2, 3, 9, 12), 5, (3, 1), pads=(0, 2, 0, 0)),
    Conv("pad_beyond_kernel", (4, 2, 3, 3), 3, (2, 2), pads=(5, 4, 3, 6)),
    Conv("stride_2_same", (16, 3, 8, 8), 4, stride=(2, 2), pads=(0, 1, 0, 1)),
    Conv("stride_mixed", (17, 2, 11, 13), 4, stride=(3, 2), pads=same(1)),
    Conv("stride_over_kernel", (16, 2, 11, 9), 3, (2, 1), stride=(4, 3)),
    Conv("dilation", (17, 3, 11, 12), 4, pads=(2, 2, 3, 3), dilation=(2, 3)),
    Conv("dilation_stride", (3, 2, 14, 15), 4, stride=(2, 3), pads=(3, 1, 2, 4), dilation=(3, 2)),
    Conv("groups_2", (17, 6, 7, 7), 10, pads=same(1), groups=2),
    Conv("groups_tails", (16, 15, 6, 5), 21, stride=(2, 1), pads=same(1), groups=3),
    Conv("depthwise", (17, 19, 7, 6), 19, pads=same(1), groups=19),
    Conv("depthwise_stride_2", (5, 12, 9, 9), 12, stride=(2, 2), pads=same(1), groups=12),
    Conv("depthwise_multiplier", (16, 5, 6, 6), 15, pads=same(1), groups=5),
    Conv("few_by_channel", (2, 12, 7, 7), 32, pads=same(1)),
    Conv("few_by_channel_groups", (1, 24, 13, 11), 96, (5, 3), (2, 2), (2, 1, 0, 1), groups=2),
    Conv("few_by_channel_dilated", (3, 10, 9, 8), 16, (3, 3), (1, 1), (2, 2, 1, 2), (2, 1)),
    Conv("1x1_one_over", (3, 20, 7, 7), 30, (1, 1)),
    Conv("1x1_turned", (17, 190, 3, 4), 181, (1, 1)),
    Conv("1x1_turned_groups", (16, 390, 5, 4), 390, (1, 1), stride=(2, 1), groups=2),
    Conv("1x1_long_tasks", (49, 380, 3, 5), 257, (1, 1)),
    Conv("1x1_four_over", (1, 64, 6, 6), 70, (1, 1), groups=2),
    Conv("1x1_eleven_over", (2, 5, 9, 3), 26, (1, 1)),
    Conv("1x1_stride_2", (2, 9, 14, 13), 50, (1, 1), (2, 2)),
    Conv("1x1_many_pixels", (1, 3, 40, 41), 5, (1, 1)),
    Conv("1x1_padded", (2, 4, 5, 6), 3, (1, 1), pads=(1, 0, 2, 1)),
    Conv("depthwise_5x5", (2, 3, 19, 37), 3, (5, 5), pads=(2, 1, 0, 3), groups=3),
    Conv("depthwise_5x5_stride_2", (1, 4, 12, 41), 8, (5, 5), (2, 2), (2, 2, 1, 3), groups=4),
    Conv("depthwise_wide", (1, 2, 5, 83), 2, (3, 5), (2, 2), (1, 0, 3, 2), groups=2),
    Conv("depthwise_strides", (3, 3, 11, 40), 3, (3, 2), (1, 3), (0, 2, 1, 0), groups=3),
    Conv("depthwise_far_padding", (1, 2, 3, 2), 4, (3, 3), (1, 1), (4, 5, 20, 3), groups=2),
    Conv("plane_in_bands", (1, 1, 75, 21), 1, pads=same(1)),
    Conv("plane_in_bands_stride_2", (1, 2, 121, 19), 2, (5, 5), (2, 2), (2, 1, 0, 4), groups=2),
    Conv("plane_in_bands_copied", (1, 1, 140, 40), 1, (4, 3), (2, 1), (2, 1, 1, 0), (1, 2)),
    Conv("one_channel_9x9", (2, 1, 20, 37), 5, (9, 9), pads=same(4)),
    Conv("one_channel_7x7_stride_2", (1, 3, 31, 33), 6, (7, 7), (2, 2), same(3), groups=3),
    Conv("depthwise_dilated_columns", (1, 2, 8, 30), 2, (3, 3), (1, 1), (1, 1, 4, 2), (1, 3), 2),
    # By weight with channels in the lanes: tails, both roles, in place and copied.
    Conv("by_channels", (17, 18, 7, 35), 37, (3, 2), (2, 1), (1, 0, 2, 1)),
    Conv(
        "by_channels_stride_2_groups", (16, 40, 9, 37), 90, (3, 3), (2, 2), (1, 1, 0, 1), groups=2
    ),
    Conv("by_channels_dilated", (16, 16, 8, 9), 33, (3, 3), (1, 2), (3, 2, 4, 0), (2, 3)),
    Conv("by_channels_far_padding", (16, 20, 3, 2), 34, (2, 2), (1, 1), (4, 5, 20, 3), (1, 2)),
    Conv("by_channels_1x1", (33, 130, 5, 7), 67, (1, 1)),
    Conv("by_channels_1x1_stride_3_2", (17, 66, 8, 39), 35, (1, 1), (3, 2)),
    Conv("by_channels_1x1_padded", (17, 66, 4, 5), 35, (1, 1), pads=(1, 0, 2, 1)),
    # The same for a few plain images: whole rows in a band, one long row, 1x1 in both roles.
    Conv("by_channels_few", (2, 18, 9, 35), 32, (3, 2), (2, 1), (1, 0, 2, 1)),
    Conv("by_channels_few_groups", (3, 40, 9, 37), 62, (3, 3), (2, 2), (1, 1, 0, 1), groups=2),
    Conv("by_channels_few_dilated", (1, 16, 8, 9), 17, (3, 3), (1, 2), (3, 2, 4, 0), (2, 3)),
    Conv("by_channels_few_far_padding", (2, 20, 3, 2), 34, (2, 2), (1, 1), (4, 5, 20, 3), (1, 2)),
    Conv("by_channels_few_bands", (2, 4, 60, 30), 16, pads=same(1)),
    Conv("by_channels_few_long_rows", (1, 4, 3, 700), 16, pads=same(1)),
    Conv("by_channels_few_1x1", (3, 80, 9, 7), 48, (1, 1)),
    Conv("by_channels_few_1x1_of_x", (2, 45, 9, 7), 90, (1, 1)),
    Conv("by_channels_few_1x1_stride_3_2", (2, 40, 8, 39), 63, (1, 1), (3, 2)),
    Conv("by_channels_few_1x1_padded", (1, 40, 4, 5), 62, (1, 1), pads=(1, 0, 2, 1)),
    # By input of plain images: phases of strides, many groups a few at a time.
    Conv("few_many_groups_stride_2", (2, 40, 9, 11), 60, (3, 3), (2, 2), same(1), groups=20),
    Conv("few_many_groups_stride_3", (3, 17, 10, 8), 34, (2, 1), (3, 3), groups=17),
    Conv("few_depthwise_stride_2", (2, 35, 12, 9), 35, (3, 3), (2, 2), (0, 1, 0, 1), groups=35),
    Conv("few_depthwise_wide_rows", (3, 18, 9, 50), 18, pads=same(1), groups=18),
    Conv("few_turned_5x5_stride_1_2", (1, 19, 7, 12), 21, (5, 5), (1, 2), same(2)),
    # The same from columns: strides, taps no output has, rows and columns no window meets.
    Conv("columns_stride_2", (1, 48, 9, 11), 20, (3, 3), (2, 2), same(1)),
    Conv("columns_uneven", (3, 16, 12, 8), 35, (4, 2), (3, 1), (1, 0, 0, 1)),
    Conv("columns_groups_dilated", (2, 96, 7, 10), 51, (3, 2), (1, 2), (3, 0, 0, 1), (2, 3), 3),
    Conv("columns_stride_beyond_kernel", (2, 16, 11, 14), 9, (2, 2), (3, 4)),
    Conv("columns_wide_padding", (1, 32, 3, 3), 40, (5, 5), (2, 1), (3, 4, 4, 3)),
    Conv("columns_one_pixel", (15, 32, 3, 4), 33, (3, 2), (1, 2)),
    Conv("columns_4x4_deep", (1, 112, 4, 4), 130, pads=same(1)),
    Conv("columns_dilated", (2, 16, 9, 8), 129, (3, 2), (1, 1), (2, 3, 1, 2), (3, 2)),
    Conv("by_channels_1x1_more_outputs", (18, 37, 6, 7), 150, (1, 1)),
    Conv("by_channels_1x1_more_outputs_groups", (16, 70, 9, 9), 210, (1, 1), (2, 2), groups=2),
    Conv("by_channels_1x1_hundreds", (16, 290, 2, 2), 520, (1, 1)),
    Conv("by_channels_copied", (17, 3, 26, 40), 50, (7, 7), (2, 2), same(3)),
    Conv("by_channels_copied_groups", (16, 10, 13, 9), 70, (5, 6), (1, 2), (2, 1, 0, 3), (1, 2), 2),
    # Plane by plane: tiles of 1 to 8 columns, an odd last row, padding up to the kernel and beyond.
    Conv("planes_one_pixel", (17, 5, 1, 1), 5, pads=same(1), groups=5),
    Conv("planes_one_column", (16, 3, 9, 1), 3, pads=same(1), groups=3),
    Conv("planes_3x5", (33, 4, 5, 23), 4, (3, 5), pads=(2, 0, 4, 1), groups=4),
    Conv("planes_5x3", (16, 6, 9, 17), 6, (5, 3), pads=(0, 4, 2, 0), groups=6),
    Conv("planes_5x5_stride_2", (17, 3, 14, 27), 3, (5, 5), (2, 2), (2, 1, 1, 2), groups=3),
    Conv("planes_stride_2_even", (16, 7, 14, 14), 7, (3, 3), (2, 2), (0, 1, 0, 1), groups=7),
    Conv("planes_stride_2_odd", (16, 7, 15, 9), 7, (3, 3), (2, 2), (1, 1, 1, 0), groups=7),
    Conv("planes_stride_3", (16, 4, 16, 13), 4, (3, 3), (3, 3), same(1), groups=4),
    Conv("planes_2x2", (16, 4, 7, 12), 4, (2, 2), pads=(1, 0, 0, 1), groups=4),
    Conv("planes_1x3_stride_2", (16, 4, 7, 12), 4, (1, 3), (2, 2), (0, 0, 1, 1), groups=4),
    Conv("planes_padding_beyond", (16, 2, 3, 4), 2, (3, 3), (1, 1), (3, 1, 1, 4), groups=2),
    Conv("planes_wide", (16, 2, 5, 1100), 2, (3, 3), (1, 1), same(1), groups=2),
    Conv("planes_alone", (16, 1, 70, 21), 1, (3, 3), (1, 1), same(1)),
    Conv("depthwise_dilation", (3, 6, 9, 9), 6, pads=same(2), dilation=(2, 2), groups=6),
]

NETWORKS = [
    Conv("lenet_c1", (33, 1, 28, 28), 6, (5, 5)),
    Conv("lenet_c2", (33, 6, 12, 12), 16, (5, 5)),
    Conv("lenet_c3", (17, 16, 5, 5), 120, (5, 5)),
    Conv("keras_convnet_1", (16, 1, 28, 28), 32),
    Conv("keras_convnet_2", (16, 32, 13, 13), 64),
    Conv("keras_convnet_3", (17, 64, 5, 5), 128),
    Conv("cifar_1", (16, 3, 32, 32), 16, pads=same(1)),
    Conv("cifar_down", (17, 16, 16, 16), 32, stride=(2, 2), pads=same(1)),
    Conv("alexnet_1", (2, 3, 63, 63), 24, (11, 11), stride=(4, 4), pads=same(2)),
    Conv("alexnet_2", (16, 12, 13, 13), 24, (5, 5), pads=same(2)),
    Conv("vgg", (16, 24, 14, 14), 24, pads=same(1)),
    Conv("vgg_last", (3, 128, 7, 7), 96, pads=same(1)),
    Conv("resnet_1", (16, 3, 40, 40), 16, (7, 7), stride=(2, 2), pads=same(3)),
    Conv("resnet_shortcut", (16, 32, 14, 14), 64, (1, 1), stride=(2, 2)),
    Conv("resnet_bottleneck", (3, 64, 7, 7), 256, (1, 1)),
    Conv("mobilenet_depthwise", (16, 32, 14, 14), 32, pads=same(1), groups=32),
    Conv("mobilenet_depthwise_down", (1, 48, 15, 15), 48, stride=(2, 2), pads=same(1), groups=48),
    Conv("mobilenet_expand", (16, 24, 7, 7), 144, (1, 1)),
    Conv("tiny_vgg", (4, 3, 24, 24), 10),
]

ONEDNN = [
    onednn(text)
    for text in (
        "mb2 ic16 ih7 oc16 oh7 kh5 ph2",  # the kernel nearly covers the input
        "ic8 oc8 ih41 oh16 kh10 sh2 ph0 iw79 ow75 kw5 sw1 pw0",  # strides differ
        "ic8 oc8 ih79 oh75 kh5 sh1 ph0 iw41 ow16 kw10 sw2 pw0",
        "ic2 ih1 iw9 oc3 oh1 ow4 kh1 kw3 sh1 sw2",
        "ic32 oc32 ih7 oh11 kh3 ph2",  # bottom pad larger than the kernel
        "ic1 oc2 ih3 oh10 kh2 dh1 ph4",
        "ic8 oc8 ih1 oh16 kh2 ph1",  # huge right pad
        "ic128 oc256 ih1 oh1 kh3 sh2 ph1",  # input smaller than the stride
        "g2 ic4 oc16 ih8 oh6 kh3",
        "g2 ic22 oc32 ih8 oh6 kh3",
        "g2 ic6 oc16 ih5 oh5 kh1",
        "ic9 oc3 ih32 oh10 kh5 sh3 ph1",
        "ic2 ih10 iw8 oc4 oh10 ow4 kh1 kw1 sh1 sw2",
        "ic16 oc16 ih2 oh1 kh1 sh3",  # rows never read: dx is 0 there
        "ic16 oc16 ih3 oh1 kh2 sh3",
        "ic3 ih32 oc51 oh16 kh7 sh2 ph3",  # output channels not a multiple of the vector
        "ic16 ih1 oc16 oh2 kh3 dh1 ph1",  # dilated kernel that meets only padding
        "ic1 oc16 ih1 oh1 kh1 iw1 ow29 kw14 pw28 dw1 dh0 ph0",
        "ic1 oc16 ih123 oh121 kh3",  # read past the end of the source
        "ic1 oc16 ih124 oh122 kh3",
        "ic2 oc16 ih16 oh16 kh3 ph1",
        "ic2 oc16 ih10 oh10 kh3 ph1",
        "ic3 oc64 ih25 oh18 kh8",
        "ic3 oc64 ih25 oh18 kh8 iw20 ow1 kw20",  # the kernel spans the width
        "g2 ic16 oc16 ih3 oh3 kh1 iw128 ow108 kw21",  # very wide kernels
        "g2 ic16 oc16 ih3 oh3 kh1 iw80 ow80 kw31 ph0 pw15",
        "ic64 oc16 ih31 oh32 kh1 ph0",  # 1x1 with a bottom pad
        "ic16 oc16 ih4 oh2 kh2 sh4 ph1",
        "ic16 oc16 ih4 oh2 kh2 sh4 ph1 iw6 ow7 kw2 sw1 pw1",  # the filter meets both pads
        "g113 ic113 ih1 oc113 oh1 kh3 ph1",  # depthwise channel tails
        "g184 ic184 ih1 oc184 oh1 kh3 ph1",
        "g50 ic50 oc50 ih28 oh26 kh3",
        "ic1 oc6 ih28 oh24 kh5",
        "ic6 oc12 ih12 oh8 kh5",
    )
]

CONVS = EDGES + NETWORKS + ONEDNN
# A few of every kind, for tests that only need variety.
CONVS_SHORT = [
    case
    for case in CONVS
    if case.name
    in {
        "batch_1",
        "batch_17",
        "channel_tails",
        "pad_one_side",
        "stride_mixed",
        "dilation_stride",
        "groups_tails",
        "depthwise",
        "lenet_c1",
        "lenet_c2",
        "keras_convnet_3",
        "resnet_shortcut",
    }
]
