"""Capture: sums, products, activations and what else works entry by entry."""

from dataclasses import replace
from fractions import Fraction
from typing import Any

import torch

from verification.activations import SELU_ALPHA, SELU_SCALE, SLOPES
from verification.capture_builder import Builder, Unrecognised, Value
from verification.capture_constants import Folded, number
from verification.capture_rules import Call, exact, rule

Operand = Value | Folded


def _operand(call: Call, name: str) -> Operand:
    value = call[name]
    return value if isinstance(value, Value | Folded) else number(value)


def _sum(build: Builder, call: Call, x: Operand, y: Operand, signs: tuple[Any, Any]) -> Value:
    terms = [(Fraction(s), v) for s, v in zip(signs, (x, y), strict=True) if isinstance(v, Value)]
    biases = [
        v.times(Fraction(s)) for s, v in zip(signs, (x, y), strict=True) if isinstance(v, Folded)
    ]
    for bias in biases:
        _finite(bias)
    return build.combine(terms, call.full, biases[0] if biases else None)


def _finite(constant: Folded) -> None:
    if constant.value.is_complex() or not bool(torch.isfinite(constant.value).all()):
        raise Unrecognised("a constant that is not finite")


@rule("add", "add_")
def _add(build: Builder, call: Call) -> Value:
    alpha = exact(call.get("alpha", 1))
    return _sum(build, call, _operand(call, "self"), _operand(call, "other"), (1, alpha))


@rule("sub", "subtract")
def _sub(build: Builder, call: Call) -> Value:
    alpha = exact(call.get("alpha", 1))
    return _sum(build, call, _operand(call, "self"), _operand(call, "other"), (1, -alpha))


@rule("rsub")
def _rsub(build: Builder, call: Call) -> Value:
    alpha = exact(call.get("alpha", 1))
    return _sum(build, call, _operand(call, "self"), _operand(call, "other"), (-alpha, 1))


@rule("neg", "negative")
def _neg(build: Builder, call: Call) -> Value:
    return build.combine([(-1, call.data("self"))], call.full)


@rule("mul", "multiply")
def _mul(build: Builder, call: Call) -> Value:
    return multiplied(build, _operand(call, "self"), _operand(call, "other"), call.full)


def multiplied(build: Builder, x: Operand, y: Operand, full: tuple[int, ...]) -> Value:
    if isinstance(x, Value) and isinstance(y, Value):
        return build.emit("product", [_alike(build, v, full) for v in (x, y)], full)
    if isinstance(x, Folded):
        x, y = y, x
    assert isinstance(x, Value)
    assert isinstance(y, Folded)
    _finite(y)
    if (scalar := build.scalar(y)) is not None:
        return build.combine([(scalar, x)], full)
    weight = build.aligned(y, full)
    return build.emit("scale", [build.expanded(x, full)], full, constants={"weight": weight})


def _alike(build: Builder, x: Value, full: tuple[int, ...]) -> Value:
    """A value that broadcasts to `full` without its batch as it does with it."""
    same = len(x.full) == len(full) and x.full[0] == full[0]
    return x if same else build.expanded(x, full)


@rule("div", "divide", "true_divide")
def _div(build: Builder, call: Call) -> Value:
    x, y = _operand(call, "self"), _operand(call, "other")
    if call.get("rounding_mode") is not None:
        raise Unrecognised("rounding")
    if isinstance(y, Folded):
        _finite(y)
        if bool((y.value == 0).any()) or not y.factor:
            raise Unrecognised("a division by zero")
        if isinstance(x, Value) and (scalar := build.scalar(y)) is not None:
            return build.combine([(1 / scalar, x)], call.full)
        y = build.constant(y, call.full)
    elif isinstance(x, Value) and _is_softsign(build, x, y):
        return build.emit("activation", [x], call.full, {"function": "softsign", "parameters": {}})
    x = build.constant(x, call.full) if isinstance(x, Folded) else x
    return build.emit("quotient", [_alike(build, v, call.full) for v in (x, y)], call.full)


def _is_softsign(build: Builder, x: Value, y: Value) -> bool:
    """Whether y = 1 + |x|."""
    node = build.nodes[y.name]
    if node.kind != "combine" or node.attributes["coefficients"] != [1] or x.full != y.full:
        return False
    inner, bias = build.nodes[node.inputs[0]], node.constants.get("bias")
    return (
        inner.kind == "activation"
        and inner.attributes["function"] == "abs"
        and inner.inputs == (x.name,)
        and bias is not None
        and bias.value.numel() == 1
        and not (build.executed and bias.error)
        and Fraction(bias.value.item()) * bias.factor == 1
    )


@rule("addcmul")
def _addcmul(build: Builder, call: Call) -> Value:
    x, y, z = (_operand(call, name) for name in ("self", "tensor1", "tensor2"))
    if isinstance(y, Folded) and isinstance(z, Folded):
        raise Unrecognised("a product of constants")
    full = torch.broadcast_shapes(
        *(v.full if isinstance(v, Value) else v.value.shape for v in (y, z))
    )
    value = exact(call.get("value", 1))
    if build.executed and value != 1:
        raise Unrecognised("the order of a product of three")
    product = multiplied(build, y, z, tuple(full))
    return _sum(build, call, x, product, (1, value))


@rule("pow")
def _pow(build: Builder, call: Call) -> Value:
    x, power = call.data("self"), call["exponent"]
    if isinstance(power, Value | Folded) or power not in (1, 2, 3):
        raise Unrecognised(f"the power {power}")
    result = x
    for _ in range(int(power) - 1):
        result = build.emit("product", [result, x], call.full)
    return result


@rule("square")
def _square(build: Builder, call: Call) -> Value:
    x = call.data("self")
    return build.emit("product", [x, x], call.full)


@rule("maximum", "minimum", "fmax", "fmin")
def extreme(build: Builder, call: Call) -> Value:
    """The larger or the smaller of two."""
    operands = [_operand(call, name) for name in ("self", "other")]
    values = [
        build.constant(v, call.full) if isinstance(v, Folded) else build.expanded(v, call.full)
        for v in operands
    ]
    return build.emit("maximum" if "max" in call.op else "minimum", values, call.full)


def activation(build: Builder, call: Call, name: str, **parameters: Any) -> Value:
    x = call.data("input" if "input" in call.arguments else "self")
    numbers = {key: exact(value) for key, value in parameters.items() if value is not None}
    SLOPES[name](**numbers)
    return build.emit("activation", [x], call.full, {"function": name, "parameters": numbers})


_PLAIN = {
    "relu": "relu", "selu": "selu", "silu": "silu", "mish": "mish", "tanh": "tanh",
    "sigmoid": "sigmoid", "log_sigmoid": "logsigmoid", "hardsigmoid": "hardsigmoid",
    "hardswish": "hardswish", "abs": "abs", "sin": "sin", "cos": "cos", "atan": "atan",
    "erf": "erf", "special_erf": "erf", "absolute": "abs", "arctan": "atan",
    "special_expit": "sigmoid",
}  # fmt: skip


@rule(*_PLAIN)
def _plain(build: Builder, call: Call) -> Value:
    return activation(build, call, _PLAIN[call.op])


@rule("relu6")
def _relu6(build: Builder, call: Call) -> Value:
    return activation(build, call, "clamp", low=0, high=6)


@rule("hardtanh")
def _hardtanh(build: Builder, call: Call) -> Value:
    return activation(build, call, "clamp", low=call["min_val"], high=call["max_val"])


@rule("clamp", "clamp_min", "clamp_max", "clip")
def _clamp(build: Builder, call: Call) -> Value:
    limits = {"low": call.get("min"), "high": call.get("max")}
    for key, limit in limits.items():
        if isinstance(limit, Value | Folded):
            if isinstance(limit, Value) or limit.scalar is None:
                raise Unrecognised("clamping to a tensor")
            limits[key] = build.scalar(limit)
        elif limit in (float("inf"), -float("inf")) and (limit > 0) == (key == "high"):
            limits[key] = None
    if set(limits.values()) == {None}:
        return call.data("self")
    return activation(build, call, "clamp", **limits)


@rule("threshold")
def _threshold(build: Builder, call: Call) -> Value:
    if call["threshold"] != call["value"]:
        raise Unrecognised("a jump at the threshold")
    return activation(build, call, "clamp", low=call["value"])


@rule("leaky_relu")
def _leaky_relu(build: Builder, call: Call) -> Value:
    return activation(build, call, "leaky_relu", negative_slope=call["negative_slope"])


@rule("rrelu")
def _rrelu(build: Builder, call: Call) -> Value:
    if call["training"]:
        raise Unrecognised("a random slope")
    slope = (call["lower"] + call["upper"]) / 2
    return activation(build, call, "leaky_relu", negative_slope=slope)


@rule("elu")
def _elu(build: Builder, call: Call) -> Value:
    numbers = call["alpha"], call["scale"], call["input_scale"]
    if numbers == (float(SELU_ALPHA), float(SELU_SCALE), 1):  # selu, written in place
        return activation(build, call, "selu")
    if (call["scale"], call["input_scale"]) != (1, 1):
        raise Unrecognised("a scaled elu")
    return activation(build, call, "elu", alpha=call["alpha"])


@rule("celu")
def _celu(build: Builder, call: Call) -> Value:
    if call["alpha"] <= 0:
        raise Unrecognised(f"celu with alpha {call['alpha']}")
    return activation(build, call, "celu", alpha=call["alpha"])


@rule("gelu")
def _gelu(build: Builder, call: Call) -> Value:
    names = {"none": "gelu", "tanh": "gelu_tanh"}
    return activation(build, call, names[call["approximate"]])


@rule("softplus")
def _softplus(build: Builder, call: Call) -> Value:
    """torch jumps by exp(-threshold) / beta where beta x passes the threshold. In float32 that is
    rounded away at the usual threshold of 20; in float64 it is not, and no slope bounds it. Below
    the threshold it takes exp(beta x), which overflows in float32 beyond 88."""
    beta, threshold = call["beta"], call["threshold"]
    jump = torch.log1p(torch.exp(torch.tensor(-float(threshold), dtype=torch.float64)))
    if beta <= 0 or threshold <= 0 or float(jump) > threshold * torch.finfo(call.dtype).eps / 4:
        raise Unrecognised(f"a jump of softplus at its threshold in {call.dtype}")
    if build.executed and threshold > 80:
        raise Unrecognised(f"softplus with a threshold of {threshold} overflows")
    return activation(build, call, "softplus", beta=beta)


@rule("softshrink")
def _softshrink(build: Builder, call: Call) -> Value:
    return activation(build, call, "softshrink", lambd=call["lambd"])


@rule("prelu", "_prelu_kernel")
def _prelu(build: Builder, call: Call) -> Value:
    x, slope = call.data("self"), call.constant("weight")
    if slope is None or not build.is_plain(x):
        raise Unrecognised("prelu of this shape")
    channels = slope.value.numel()
    if channels > 1 and len(x.full) < 2:
        raise Unrecognised("prelu of this shape")
    shape = (channels, *[1] * (len(x.full) - 2)) if call.op == "prelu" else slope.value.shape
    shaped = replace(slope, value=slope.value.reshape(shape))
    constants = {"slope": build.aligned(shaped, x.full)}
    attributes = {"function": "prelu", "parameters": {}}
    return build.emit("activation", [x], call.full, attributes, constants)


@rule("softmax", "_softmax", "special_softmax")
def _softmax(build: Builder, call: Call) -> Value:
    x = call.data("self")
    return build.emit("softmax", [x], call.full, {"dim": build.dim(x, call["dim"])})


@rule("log_softmax", "_log_softmax", "special_log_softmax")
def _log_softmax(build: Builder, call: Call) -> Value:
    x = call.data("self")
    return build.emit("log_softmax", [x], call.full, {"dim": build.dim(x, call["dim"])})


@rule("logsumexp", "special_logsumexp")
def _logsumexp(build: Builder, call: Call) -> Value:
    return _over(build, call, "logsumexp", call["dim"])


@rule("linalg_vector_norm", "linalg_norm", "norm")
def _norm(build: Builder, call: Call) -> Value:
    order = call.get("ord", call.get("p"))
    dims = call.get("dim")
    if order not in (2, None) or not dims:
        raise Unrecognised(f"the norm of order {order}")
    several = not isinstance(dims, int) and len(dims) > 1
    if call.op == "linalg_norm" and order == 2 and several:
        raise Unrecognised("the largest singular value of a matrix")
    return _over(build, call, "norm", dims)


def _over(build: Builder, call: Call, kind: str, dims: Any) -> Value:
    """A node over whole dimensions."""
    x, dims = call.data("self"), [dims] if isinstance(dims, int) else list(dims)
    inner = [build.dim(x, d) for d in dims]
    around = {d % len(x.full) for d in dims}
    full = tuple(1 if d in around else n for d, n in enumerate(x.full))
    return build.reshaped(build.emit(kind, [x], full, {"dims": inner}), call.full)
