"""The network as training sees it: without the final softmax that the loss takes the place of."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from .. import nn
from ..errors import ShapeError
from ..grad_mode import grad_mode, no_grad
from ..program import RecordedForward, RecordedStep
from ..tensor import Tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .objectives import Objective

__all__ = ["Network", "modes_kept", "takes_signals"]


class Network:
    """A model whose outputs are logits, whether or not it ends in softmax (or sigmoid).

    As a context manager it makes the final layer of type `head` pass its input through, if the
    model ends in one, so that the loss sees logits and can be computed in its stable form; the
    numbers are the same. The model is as it was when the block ends.

    Networks of this package's own layers run as recorded programs (fastconv/program.py).

    Args:
        model: The user's network.
        head: `nn.Softmax`, `nn.Sigmoid`, or None.
        sample: A small batch, to see what comes out.
    """

    def __init__(self, model: nn.Module, head: type[nn.Module] | None, sample: Tensor) -> None:
        self.model = model
        self._sample = sample
        self._forward = RecordedForward(model, unasked=True)
        self._step: RecordedStep | None = None
        self._head: nn.Module | None = None
        self._open = ExitStack()
        for candidate in [m for m in model.modules() if head is not None and isinstance(m, head)]:
            with _passing_through(candidate) as passed:
                outputs = self._run_sample()
            # Only what comes out last, untouched, is the head; softmax inside a network stays.
            if any(outputs is x for x in passed):
                self._head = candidate

    def output_shape(self) -> tuple[int, ...]:
        """Of one sample; a trial run that finds shapes that do not fit before anything is done."""
        try:
            return self._run_sample().shape[1:]
        except ShapeError as error:
            error.args = (f"{error}{_channels_last_hint(self._sample)}",)
            raise

    def __call__(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.model(x) if grad_mode.enabled else self._forward(x)
        return outputs

    def step(self, objective: Objective, images: Tensor, targets: NDArray[Any]) -> Any:
        """The loss and the outputs, with gradients left in the parameters; one objective a run."""
        if self._step is None:
            self._step = RecordedStep(self.model, objective.function, unasked=True)
        return self._step(images, targets)

    def __enter__(self) -> Network:
        if self._head is not None:
            self._open.enter_context(_passing_through(self._head))
        return self

    def __exit__(self, *exception: object) -> None:
        self._open.close()

    def _run_sample(self) -> Tensor:
        with modes_kept(self.model), no_grad():
            self.model.eval()
            outputs = self.model(self._sample)
        if not isinstance(outputs, Tensor):
            raise TypeError(f"the model must return one Tensor, got {type(outputs).__name__}")
        return outputs


@contextmanager
def modes_kept(model: nn.Module) -> Iterator[None]:
    """Leaves every module in training or evaluation mode as it was."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def takes_signals(model: nn.Module) -> bool:
    """Whether the first layer works on (N, C, L), so that a three-dimensional x is not images."""
    leaves = (module for module in model.modules() if not any(True for _ in module.children()))
    first = next(leaves, None)
    return isinstance(first, (nn.Conv1d, nn.BatchNorm1d))


@contextmanager
def _passing_through(module: nn.Module) -> Iterator[list[Tensor]]:
    """While open the module returns its input, and notes the last one in the list.

    May be nested: a callback of `fit` may call `evaluate` on the same model.
    """
    passed: list[Tensor] = []

    def forward(x: Tensor) -> Tensor:
        passed[:] = [x]
        return x

    before = vars(module).get("forward")
    module.forward = forward  # type: ignore[method-assign]
    try:
        yield passed
    finally:
        if before is None:
            del module.forward
        else:
            module.forward = before  # type: ignore[method-assign]


def _channels_last_hint(sample: Tensor) -> str:
    shape = sample.shape
    if len(shape) == 4 and shape[3] in (1, 3, 4) and shape[1] > 4:
        return (
            f". x looks like (N, H, W, C), {shape[1:]} a sample; fastconv takes (N, C, H, W): "
            "x.transpose(0, 3, 1, 2)"
        )
    return ""
