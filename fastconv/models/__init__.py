"""Networks of the literature, one family a file. All end in logits: no final softmax.

`REGISTRY` names those that learn MNIST-shaped images, for the command line.
"""

from collections.abc import Callable

from ..nn import Module
from .keras import keras_convnet, keras_convnet_no_pool, keras_mlp
from .lenet import lenet1, lenet5

__all__ = ["REGISTRY", "keras_convnet", "keras_convnet_no_pool", "keras_mlp", "lenet1", "lenet5"]

REGISTRY: dict[str, Callable[[], Module]] = {
    "lenet5": lenet5,
    "lenet1": lenet1,
    "keras_mlp": keras_mlp,
    "keras_convnet": keras_convnet,
    "keras_convnet_no_pool": keras_convnet_no_pool,
}
