"""Optimisers in float64: PyTorch's update rules, one parameter at a time.

`state` is a dict that starts empty and belongs to the parameter; each function returns the new
parameter and leaves what it must remember in `state`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.reference import Floats, f64


def sgd(
    p: Any,
    g: Any,
    state: dict[str, Any],
    lr: float,
    momentum: float = 0.0,
    dampening: float = 0.0,
    weight_decay: float = 0.0,
    nesterov: bool = False,
    maximize: bool = False,
) -> Floats:
    """v = momentum v + (1 - dampening) g, the first time v = g;
    p = p - lr v, or with Nesterov p - lr (g + momentum v)."""
    g = (-f64(g) if maximize else f64(g)) + weight_decay * f64(p)
    if momentum:
        v = state.get("v")
        state["v"] = v = g if v is None else momentum * v + (1 - dampening) * g
        g = g + momentum * v if nesterov else v
    return f64(p) - lr * g


def rmsprop(
    p: Any,
    g: Any,
    state: dict[str, Any],
    lr: float,
    alpha: float = 0.99,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    momentum: float = 0.0,
    centered: bool = False,
    eps_inside_sqrt: bool = False,
) -> Floats:
    """s = alpha s + (1 - alpha) g^2;  p = p - lr g / (sqrt(s) + eps), or Keras's g / sqrt(s + eps).

    Centred: s - (mean of g)^2 in place of s. With momentum steps add up: v = momentum v + step.
    """
    g = f64(g) + weight_decay * f64(p)
    state["s"] = s = alpha * state.get("s", 0.0) + (1 - alpha) * g**2
    if centered:
        state["m"] = m = alpha * state.get("m", 0.0) + (1 - alpha) * g
        s = s - m**2
    step = g / (np.sqrt(s + eps) if eps_inside_sqrt else np.sqrt(s) + eps)
    if momentum:
        state["v"] = step = momentum * state.get("v", 0.0) + step
    return f64(p) - lr * step


def adam(
    p: Any,
    g: Any,
    state: dict[str, Any],
    lr: float,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    decoupled: bool = False,
    amsgrad: bool = False,
    maximize: bool = False,
) -> Floats:
    """m = b1 m + (1 - b1) g, v = b2 v + (1 - b2) g^2;  p = p - lr m' / (sqrt(v') + eps), where the
    primes mean divided by 1 - b1^t and 1 - b2^t. AMSGrad takes the largest v so far. Weight decay
    goes into g, or (decoupled, AdamW) shrinks p by 1 - lr weight_decay first."""
    p, g = f64(p), -f64(g) if maximize else f64(g)
    if decoupled:
        p = p * (1 - lr * weight_decay)
    else:
        g = g + weight_decay * p
    state["t"] = t = state.get("t", 0) + 1
    state["m"] = m = betas[0] * state.get("m", 0.0) + (1 - betas[0]) * g
    state["v"] = v = betas[1] * state.get("v", 0.0) + (1 - betas[1]) * g**2
    if amsgrad:
        state["top"] = v = np.maximum(state.get("top", 0.0), v)
    return p - lr * (m / (1 - betas[0] ** t)) / (np.sqrt(v / (1 - betas[1] ** t)) + eps)


def adagrad(
    p: Any,
    g: Any,
    state: dict[str, Any],
    lr: float,
    lr_decay: float = 0.0,
    weight_decay: float = 0.0,
    eps: float = 1e-10,
    initial: float = 0.0,
) -> Floats:
    """s = s + g^2;  p = p - lr / (1 + (t - 1) lr_decay) * g / (sqrt(s) + eps)."""
    g = f64(g) + weight_decay * f64(p)
    state["t"] = t = state.get("t", 0) + 1
    state["s"] = s = state.get("s", initial) + g**2
    return f64(p) - lr / (1 + (t - 1) * lr_decay) * g / (np.sqrt(s) + eps)
