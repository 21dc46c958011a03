"""What float32 does to a graph: an a-priori bound on its rounding, for all inputs of bounded norm.

For every example x of float32 numbers with |x| <= R (l2), |f32(x) - f(x)| <= e, where f is the
function of real numbers on the stored weights and f32 what is executed. Of each node two numbers
are carried forward: `size`, a bound on the norm of the exact value, and `error`, one on the l2
distance of the executed value from it. With u = 2^-24, for a map that is L-Lipschitz, sums n
products and has the matrix W of weights:

    size  <= L size + |f(0)|,    error <= L error + gamma(n) (‖|W|‖ (size + error) + |bias|),

where ‖|W|‖ is at most the geometric mean of the row and column sums of |W|. Between a node and its
dominator the rounding is that of the nodes between them alone, for an exact start of norm size +
error; what came before grows by the Lipschitz constant that `lipschitz` proves for that stretch,
and not by the sum over its paths: a step that is 1-Lipschitz does not blow up old errors.

Assumed of the machine: IEEE single precision or better, rounding to nearest; results below the
least normal number 2^-126 may be flushed to zero, as may operands; sums of products in any order,
with or without fused multiply-add, as `dsnn.operators.rounding` has it for float64. So no Winograd
or FFT convolution, no TF32, no half precision: with those nothing here holds. Sums of statistics
of a batch normalisation may be fused. An elementary function at z is computed within 2^-18 (1 +
|z|) times the size of its parameters, exp within 2^-20 relatively, a square root within 4 units:
the libraries behind torch state one to four units of 2^-24. Nothing may overflow: where a bound on
a partial sum passes 2^126, the error is infinite, as it is, with the reason, where there is no
rule.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from fractions import Fraction

import torch

from dsnn.operators.rounding import sqrt_up, up
from verification import lipschitz
from verification.constant import round_up
from verification.graph import Constant, Graph, Node
from verification.lipschitz import Derivation
from verification.norms import OPERATORS, Spectra
from verification.running_error_affine import absolute_norm

UNIT = 2.0**-24
LEAST = 2.0**-126
"""The least normal number: what a flushed result is off by."""
LARGEST = 2.0**126
ELEMENTARY = 2.0**-18
EXPONENTIAL = 2.0**-20


@dataclass(frozen=True)
class Rounding:
    """Norm and error of the value of a node; `reason` says why an infinite error is infinite."""

    size: float
    error: float
    reason: str = ""

    @property
    def executed(self) -> float:
        """A bound on the norm of the executed value."""
        return up(self.size + self.error)


def rounding(
    executed: Graph, graph: Graph, spectra: Spectra, radius: float, error: float = 0.0
) -> Rounding:
    """The bound at the output, for inputs of norm `radius` that are off by `error`.

    `executed` and `graph` are captures of one module, with and without `executed` of `capture`:
    the one says what is rounded, the other has the better constants.
    """
    local = _Forward(Derivation(executed, spectra))
    better = Derivation(graph, spectra)
    start, state = executed.input.name, Rounding(radius, error)
    for end in local.flow.path(start, executed.output):
        if end not in better.flow.nodes or not math.isfinite(state.error):
            continue
        through = local.run(start, end, state)
        try:
            constant = better.between(start, end).upper
        except ValueError:  # flattened sums may bypass the start
            constant = math.inf
        if math.isfinite(constant):
            alone = local.run(start, end, Rounding(state.executed, 0.0))
            zero = local.run(start, end, Rounding(0.0, 0.0))
            size = min(through.size, up(zero.size + constant * state.size))
            total = min(through.error, up(alone.error + constant * state.error))
            through = replace(through, size=size, error=total)
        start, state = end, through
    if start != executed.output:
        state = local.run(start, executed.output, state)
    return state


class _Forward:
    """The rules along the nodes of a graph, one after another."""

    def __init__(self, derivation: Derivation):
        self.derivation, self.flow = derivation, derivation.flow

    def run(self, start: str, end: str, first: Rounding) -> Rounding:
        """The bound at `end`, a function of `start`, of which `first` is known."""
        known = {start: first}
        for node in self.flow.graph:
            new = node.name not in known and node.kind != "input"
            if new and all(name in known for name in node.inputs):
                known[node.name] = self._node(node, [known[name] for name in node.inputs])
            if node.name == end:
                break
        return known[end]

    def _node(self, node: Node, inputs: list[Rounding]) -> Rounding:
        for before in inputs:
            if not math.isfinite(before.error):
                return before
        rule = RULES.get(node.kind)
        if rule is None:
            where = f" in {node.module}" if node.module else ""
            name = node.attributes.get("operator", node.kind)
            return _endless(f"no bound on the rounding of {name}{where}")
        found = rule(self, node, inputs)
        if not (found.error < math.inf and found.executed <= LARGEST):
            return _endless(found.reason or f"float32 may overflow at {node.name}")
        return found

    def lipschitz(self, node: Node) -> float:
        lines = lipschitz.RULES[node.kind](self.derivation, node.inputs[0], node)
        return min(line.upper for line in lines)

    def shape(self, name: str) -> tuple[int, ...]:
        return self.flow.nodes[name].shape


def _endless(reason: str) -> Rounding:
    return Rounding(math.inf, math.inf, reason)


def _sum(terms: Iterable[float]) -> float:
    return up(math.fsum(terms))


def _gamma(n: int) -> float:
    """n u / (1 - n u); infinite for sums that are too long for it."""
    return up(n * UNIT / (1 - n * UNIT)) if n * UNIT < 0.5 else math.inf


def _root(n: int) -> float:
    return sqrt_up(float(n))


def _above(value: Fraction) -> float:
    return round_up(abs(value))


def _largest(constant: Constant) -> float:
    return up(float(constant.value.abs().max()) * _above(constant.factor))


def _length(constant: Constant | None, entries: int) -> tuple[float, float]:
    """The norm of a constant broadcast to so many entries, of the exact one where it is `rounded`,
    and that of its error."""
    if constant is None:
        return 0.0, 0.0
    value = constant.value.detach().flatten().to(torch.float64)
    copies = entries / max(1, value.numel())
    norm = float(torch.linalg.vector_norm(value)) * (1 + 2.0**-53 * (value.numel() + 8))
    near = up(constant.rounded * _above(constant.factor) * _root(entries))
    return up(norm * _above(constant.factor) * up(math.sqrt(copies)) + near), up(
        constant.error * _root(entries)
    )


Rule = Callable[[_Forward, Node, list[Rounding]], Rounding]
RULES: dict[str, Rule] = {}


def _rule(*kinds: str) -> Callable[[Rule], Rule]:
    def register(rule: Rule) -> Rule:
        RULES.update(dict.fromkeys(kinds, rule))
        return rule

    return register


@_rule(*OPERATORS)
def _operator(forward: _Forward, node: Node, inputs: list[Rounding]) -> Rounding:
    """Weights that the module computes are off by their own errors, and rounded in that state."""
    (x,), weight, a = inputs, node.constants["weight"], node.attributes
    w = weight.value.detach().to("cpu", torch.float64)
    groups = a.get("groups", 1)
    row, column = w[0].numel(), w[:, 0].numel() // groups
    if node.kind == "linear":
        positions = math.prod(node.shape) // w.shape[0]
    else:
        positions = math.prod(node.shape[1:])
    turns = _turns(node, forward.shape(node.inputs[0]))
    spread = up(_root(row * column) * _root(turns))
    matrix = up(absolute_norm(w, groups) * _above(weight.factor) * _root(turns))
    off = up(weight.error * spread)
    carried = min(forward.lipschitz(node), matrix)
    channels = math.prod(node.shape) // positions
    bias, bias_off = _length(node.constants.get("bias"), channels)
    bias, bias_off = up(bias * _root(positions)), up(bias_off * _root(positions))
    products = column * turns if node.kind == "adjoint" else row
    whole = _sum([matrix * x.executed, off * x.executed, bias, bias_off])
    if whole > LARGEST:
        return _endless("")
    outputs, entries = _root(math.prod(node.shape)), _root(math.prod(forward.shape(node.inputs[0])))
    flushed = LEAST * _sum(
        [(products + 8) * outputs, spread * x.executed, (matrix + off) * entries]
    )
    error = _sum(
        [
            carried * x.error,
            off * x.executed,
            bias_off,
            _gamma(products + 16) * whole,
            flushed,
        ]
    )
    return Rounding(_sum([carried * x.size, bias]), error)


def _turns(node: Node, shape: tuple[int, ...]) -> int:
    """How often a tap reads the same entry of a circular image: more than once where the output
    is longer than the image, which padding by more than the kernel's reach makes it."""
    a = node.attributes
    if node.kind == "linear" or not a["circular"]:
        return 1
    image, outputs = (node.shape, shape) if node.kind == "adjoint" else (shape, node.shape)
    return math.prod(
        -(-m * s // n) for n, m, s in zip(image[1:], outputs[1:], a["stride"], strict=True)
    )


@_rule("scale")
def _scale(forward: _Forward, node: Node, inputs: list[Rounding]) -> Rounding:
    (x,), weight, n = inputs, node.constants["weight"], math.prod(node.shape)
    if forward.shape(node.inputs[0]) != node.shape:
        return _endless("no bound on the rounding of a scale that repeats entries")
    bias, bias_off = _length(node.constants.get("bias"), n)
    return _summed(n, [(_largest(weight), weight.error)], [x], bias, bias_off)


@_rule("combine")
def _combine(forward: _Forward, node: Node, inputs: list[Rounding]) -> Rounding:
    """A coefficient is off by `capture_builder.NEARLY`, 4 units, its rounding and that of its
    reciprocal: with the product and the sums, n + 8 for a sum of n."""
    n = math.prod(node.shape)
    bias, bias_off = _length(node.constants.get("bias"), n)
    sizes = [_above(Fraction(c)) for c in node.attributes["coefficients"]]
    return _summed(n, [(c, 0.0) for c in sizes], inputs, bias, bias_off)


def _summed(
    entries: int,
    coefficients: list[tuple[float, float]],
    inputs: list[Rounding],
    bias: float,
    bias_off: float,
) -> Rounding:
    """Sums of multiples by (c, error of c), entry by entry, plus a bias."""
    terms = [(c, off, x) for (c, off), x in zip(coefficients, inputs, strict=True)]
    whole = _sum([bias, bias_off, *((c + off) * x.executed for c, off, x in terms)])
    if not whole <= LARGEST or any(c > LARGEST for c, _, _ in terms):
        return _endless("")
    flushed = LEAST * _sum(
        [(4 * len(terms) + 4) * _root(entries), *(x.executed for x in inputs)]
        + [(c + off) * _root(entries) for c, off, _ in terms]
    )
    error = _sum(
        [bias_off, _gamma(len(terms) + 8) * whole, flushed]
        + [c * x.error + off * x.executed for c, off, x in terms]
    )
    return Rounding(_sum([bias, *(c * x.size for c, _, x in terms)]), error)


@_rule("reshape", "gather", "window_max", "sort")
def _moved(forward: _Forward, node: Node, inputs: list[Rounding]) -> Rounding:
    """No rounding: entries are only picked, and small ones perhaps flushed."""
    (x,), factor = inputs, forward.lipschitz(node)
    flushed = LEAST * _root(math.prod(node.shape))
    return Rounding(up(factor * x.size), _sum([factor * x.error, flushed]))


@_rule("window_sum")
def _window_sum(forward: _Forward, node: Node, inputs: list[Rounding]) -> Rounding:
    """The constant of the rule is one for the weights without their signs."""
    (x,), factor, a = inputs, forward.lipschitz(node), node.attributes
    longest = math.prod(max(int(b) - int(a) for a, b in along) for along in a["windows"])
    whole = up(factor * x.executed)
    most = _root(math.prod(node.shape))
    weights = math.prod(
        max([Fraction(1), *(abs(Fraction(w)) for w in along)]) for along in a["weights"]
    )
    raw = up(longest * _above(Fraction(weights)) * x.executed)
    if raw > LARGEST:
        return _endless("")
    flushed = LEAST * _sum([8 * (longest + 1) * most * (1 + _above(Fraction(weights))), raw])
    error = _sum([factor * x.error, _gamma(longest + 16) * whole, flushed])
    return Rounding(up(factor * x.size), error)


@_rule("concat")
def _concat(forward: _Forward, node: Node, inputs: list[Rounding]) -> Rounding:
    flushed = LEAST * _root(math.prod(node.shape))
    error = _sum([_side_by_side(x.error for x in inputs), flushed])
    return Rounding(_side_by_side(x.size for x in inputs), error)


def _side_by_side(sizes: Iterable[float]) -> float:
    return up(math.hypot(*sizes))


@_rule("maximum", "minimum")
def _extreme(forward: _Forward, node: Node, inputs: list[Rounding]) -> Rounding:
    if any(forward.shape(name) != node.shape for name in node.inputs):
        return _endless(f"no bound on the rounding of a {node.kind} that repeats entries")
    return _concat(forward, node, inputs)


@_rule("constant")
def _constant(forward: _Forward, node: Node, inputs: list[Rounding]) -> Rounding:
    size, off = _length(node.constants["value"], math.prod(node.shape))
    return Rounding(size, _sum([off, UNIT * size, LEAST * _root(math.prod(node.shape))]))


_EXACT = ("relu", "abs")
_AT_ZERO = {"sigmoid": 0.5, "logsigmoid": 0.75, "cos": 1.0, "hardsigmoid": 0.5}


@_rule("activation")
def _activation(forward: _Forward, node: Node, inputs: list[Rounding]) -> Rounding:
    """Of a piecewise linear one only a slope or a limit is rounded, and the product by the slope;
    what is not written below is elementary."""
    (x,), name, entries = inputs, node.attributes["function"], _root(math.prod(node.shape))
    parameters = {k: _above(v) for k, v in node.attributes["parameters"].items()}
    slope = forward.lipschitz(node)
    zero, own = _AT_ZERO.get(name, 0.0), LEAST * entries
    if name == "softplus":
        zero = up(0.75 / parameters["beta"])
    if name == "clamp":
        zero = max(0.0, *parameters.values())
        own = _sum([own, 6 * UNIT * zero * entries])
    elif name in ("leaky_relu", "prelu"):
        off = node.constants["slope"].error if name == "prelu" else 0.0
        own = _sum([_gamma(4) * (slope + off) * x.executed, off * x.executed, 4 * own])
        own = _sum([own, LEAST * x.executed])
    elif name not in _EXACT:
        sizes = [p for p in parameters.values() if p]
        size = max([2.0, *sizes, *(up(1 / p) for p in sizes)])
        own = _sum([own, ELEMENTARY * size * _sum([entries, x.executed])])
    return Rounding(_sum([slope * x.size, zero * entries]), _sum([slope * x.error, own]))


@_rule("softmax", "log_softmax", "logsumexp")
def _exponentials(forward: _Forward, node: Node, inputs: list[Rounding]) -> Rounding:
    """exp(x - max x), where the difference is rounded, and a sum s of them have a relative error r.
    So have probabilities, and those of a group a norm of at most 1. The logarithm of s, in [1, n],
    is off by 2 r, and by its own error at s; max x + log s, or x without it, is rounded again."""
    (x,), before, n = inputs, forward.shape(node.inputs[0]), math.prod(node.shape)
    dims = node.attributes.get("dims", [node.attributes.get("dim")])
    count, factor = math.prod(before[d] for d in dims), forward.lipschitz(node)
    relative = _sum([_gamma(count + 8), 4 * EXPONENTIAL, 4 * UNIT * x.executed])
    if relative > 0.125:
        return _endless("the inputs of a softmax are too large for a bound on its rounding")
    if node.kind == "softmax":
        size, own = _root(n // count), 2 * relative * _root(n // count)
    else:
        size = _sum([factor * x.size, _root(n) * up(math.log(count))])
        rounded = 8 * UNIT * _sum([2 * x.executed, count])
        own = _root(n) * _sum([2 * relative, ELEMENTARY * (1 + count), rounded])
    return Rounding(size, _sum([factor * x.error, own, 4 * LEAST * _root(n)]))


@_rule("norm")
def _norm(forward: _Forward, node: Node, inputs: list[Rounding]) -> Rounding:
    """Squares below the least normal number vanish, n of them in each sum."""
    (x,), n = inputs, math.prod(forward.shape(node.inputs[0]))
    if up(x.executed * x.executed) > LARGEST:
        return _endless("")
    own = _sum([_gamma(n + 16) * x.executed, math.sqrt(LEAST) * 2 * _root(n)])
    return Rounding(x.size, _sum([x.error, own]))


@_rule("product", "matmul")
def _product(forward: _Forward, node: Node, inputs: list[Rounding]) -> Rounding:
    """|x y| <= |x| |y| in Frobenius norms: each pair of entries is multiplied at most once."""
    x, y = inputs
    products = 1 if node.kind == "product" else forward.shape(node.inputs[0])[-1]
    whole = up(x.executed * y.executed)
    carried = _sum([x.error * y.size, y.error * x.size, x.error * y.error])
    most = _root(math.prod(node.shape)) * (products + 4)
    entries = _root(math.prod(node.shape) * products)
    flushed = LEAST * _sum([most, entries * x.executed, entries * y.executed])
    own = _sum([_gamma(products + 4) * whole, flushed])
    return Rounding(up(x.size * y.size), _sum([carried, own]))
