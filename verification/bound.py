"""Lipschitz constants of a network and its parts, composed from theorems [T7-T11].

Each module gets the constant of the law that fits it, evaluated in ball arithmetic at the measured
spectra of its operators and rounded up: proved in real arithmetic on the stored weights.
"""

import math
from dataclasses import dataclass, field
from fractions import Fraction
from functools import singledispatchmethod

import torch
from sympy import Expr
from torch import nn

from dsnn.fields import GradientField, ResidualField, TwoLayerField
from dsnn.integrators import Alternation, Euler, FixedEuler, FlexiblePair
from dsnn.models import CifarNet
from dsnn.models.cifar import SIDE, Flow, Lift, Stage
from dsnn.operators import Convolution
from dsnn.operators.bounds import SingularValues, singular_values
from theory import balls, theorems
from theory.network import lipschitz, lipschitz_pixel, stage_symbols

Values = dict[str, float]


@dataclass(frozen=True)
class Constant:
    """An upper bound on a Lipschitz constant and where it comes from.

    `law` is a theorem's id, or says what was done; `values` are the numbers it was evaluated at;
    `parts` are the constants it was composed from, by module name.
    """

    upper: float
    law: str
    values: Values = field(default_factory=dict)
    parts: tuple[tuple[str, "Constant"], ...] = ()


@dataclass(frozen=True)
class NetworkBound:
    """Constants with respect to the normalised input and to pixels in [0, 1]."""

    lipschitz: float
    lipschitz_pixel: float


def network_bound(
    net: CifarNet, std: tuple[float, float, float], *, tight: bool = False
) -> NetworkBound:
    """Upper bounds on the constant of `net`, and of `net` after (pixel - mean) / std [T11]."""
    ledger = Ledger(net, tight=tight)
    return NetworkBound(ledger.constant("").upper, ledger.pixel(std).upper)


class Ledger:
    """Constants of all modules of one network, with the spectra of its operators.

    Spectra are computed once, when first needed; `tighten` replaces one by its tight version.
    With `optimistic` the constants use the unproved ends of the spectra instead: what could at
    best be proved. Such constants decide where effort goes, and never a verdict.
    """

    def __init__(self, net: CifarNet, *, tight: bool = False):
        self.net, self.tight = net, tight
        self.modules = {name: m for name, m in net.named_modules() if _is_map(m)}
        self.names = {module: name for name, module in self.modules.items()}
        self.spectra: dict[str, SingularValues] = {}
        self.tightened: set[str] = set()
        self.optimistic = False

    def operators(self) -> list[str]:
        """Names of all linear maps, executed or not."""
        return [n for n, m in self.modules.items() if isinstance(m, Convolution | nn.Linear)]

    def spectrum(self, operator: nn.Module) -> SingularValues:
        """Singular values of an operator of the network."""
        name = self.names[operator]
        if name not in self.spectra:
            self._compute(name, self.tight)
        return self.spectra[name]

    def tighten(self, name: str) -> None:
        """Spend factorisations on the operator `name`, once."""
        if name not in self.tightened:
            self._compute(name, True)

    def tightening_work(self, name: str) -> float:
        """Floating-point operations that `tighten` would take, roughly; 0 when it gains nothing."""
        module = self.modules[name]
        if name in self.tightened or not isinstance(module, Convolution):
            return 0.0
        channels, height, width = self.shape(name)
        return 40.0 * height * (channels * width) ** 3

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of one input of the module called `name`: kernels keep the extent of their
        stage, and pools halve it."""
        module, parts = self.modules[name], name.split(".")
        if name == "head":
            return (self.net.head.in_features,)
        if not name:
            return (3, SIDE, SIDE)
        k = int(parts[1])
        stage = self.net.stages[k]
        outside = isinstance(module, Stage) or parts[2] == "lift"
        channels = stage.lift.operator.weight.shape[1 if outside else 0]
        return (channels, SIDE >> k, SIDE >> k)

    def _compute(self, name: str, tight: bool) -> None:
        shape = self.shape(name)
        extent = None if len(shape) == 1 else (shape[1], shape[2])
        self.spectra[name] = singular_values(self.modules[name], extent, tight=tight)
        if tight:
            self.tightened.add(name)

    def constant(self, name: str) -> Constant:
        """The constant of the module called `name`; "" is the whole network."""
        return self._of(self.modules[name])

    def pixel(self, std: tuple[float, float, float]) -> Constant:
        """The constant of the network with its input normalisation [T11]."""
        values, parts = self._network(self.net)
        values["std_min"] = min(std)
        return _evaluate("T11-network", lipschitz_pixel(), values, parts)

    def used(self, name: str) -> list[str]:
        """The operators that the constant of module `name` rests on."""

        def leaves(constant: Constant) -> set[str]:
            names = {n for n, part in constant.parts if part.law == "norm"}
            return names.union(*(leaves(part) for _, part in constant.parts))

        found = leaves(self.constant(name))
        return [n for n in self.operators() if n in found]

    def _largest(self, operator: nn.Module) -> float:
        lower, upper = self.spectrum(operator).norm
        return lower if self.optimistic else upper

    def _smallest(self, operator: nn.Module) -> float:
        lower, upper = self.spectrum(operator).smallest
        return upper if self.optimistic else lower

    def _norm(self, operator: nn.Module) -> tuple[str, Constant]:
        constant = Constant(self._largest(operator), "norm")
        return self.names[operator], constant

    @singledispatchmethod
    def _of(self, module: nn.Module) -> Constant:
        return Constant(math.inf, f"no rule for {type(module).__name__}")

    @_of.register
    def _(self, module: Convolution | nn.Linear) -> Constant:
        return Constant(self._largest(module), "norm")

    @_of.register
    def _(self, module: nn.MaxPool2d) -> Constant:
        disjoint = module.kernel_size == module.stride and module.dilation == 1
        if not disjoint or module.padding:
            return Constant(math.inf, "no rule for pooling with overlap or padding")
        return Constant(1.0, "maximum over disjoint windows")

    @_of.register
    def _(self, module: GradientField) -> Constant:
        s = self._largest(module.operator)
        return _times("|A| |A|", [s, s], [self._norm(module.operator)])

    @_of.register
    def _(self, module: ResidualField) -> Constant:
        return _times("|W|", [self._largest(module.operator)], [self._norm(module.operator)])

    @_of.register
    def _(self, module: TwoLayerField) -> Constant:
        parts = [self._norm(module.inner), self._norm(module.outer)]
        product = Fraction(parts[0][1].upper) * Fraction(parts[1][1].upper)
        return _sum("|B| |A| + damping", [product, Fraction(module.damping)], parts)

    @_of.register
    def _(self, module: Euler) -> Constant:
        (time,) = _exact(module)
        if not isinstance(module.field, GradientField):
            return Constant(math.inf, f"no rule for a step of {type(module.field).__name__}")
        return self._contractive(module.field, time)

    def _contractive(self, gradient: GradientField, time: float) -> Constant:
        operator = gradient.operator
        if gradient.slope == 0:
            law, values = "T8-nonexpansive-euler", {"h": time}
        else:
            law, values = "T7-contractive-euler", {"h": time, "a": gradient.slope}
            values["s_min"] = self._smallest(operator)
        values["s_max"] = self._largest(operator)
        return _law(law, values, (self._norm(operator),))

    @_of.register
    def _(self, module: FixedEuler) -> Constant:
        """x + h (g(x) - c x) = (1 - h c) (x + h / (1 - h c) g(x)), with |A| |B| for g [T8', D8]."""
        inner = module.field
        if not isinstance(inner, TwoLayerField):
            return Constant(math.inf, f"no rule for a step of {type(inner).__name__}")
        kept = 1 - Fraction(module.time) * Fraction(inner.damping)
        if kept == 0 or Fraction(float(module.time / kept)) != module.time / kept:
            return Constant(math.inf, "no rule for this damping")
        parts = [self._norm(inner.inner), self._norm(inner.outer)]
        both = _times("|B| |A|", [part.upper for _, part in parts], parts)
        values = {"h": float(module.time / kept), "s_max": both.upper}
        step = _law("T8'-expansive-euler", values, tuple(parts))
        return _times("(1 - h c) T8'", [float(abs(kept)), step.upper], [("", step)])

    @_of.register
    def _(self, module: Alternation) -> Constant:
        h_e, h_c = _exact(module)
        push = h_e * module.rescaling.item()  # exact: two float32 factors in double
        outer, inner = module.expansive.operator, module.contractive.operator
        values = {"h_1": h_c, "h_2": push, "S": module.substeps, "a": module.contractive.slope}
        values |= {"s_min": self._smallest(inner), "s_max": self._largest(inner)}
        values["w_max"] = self._largest(outer)
        return _law("T9-switching", values, (self._norm(outer), self._norm(inner)))

    @_of.register
    def _(self, module: FlexiblePair) -> Constant:
        if module.substeps != 2:
            return Constant(math.inf, "no rule for a flexible switch of other than 2 substeps")
        h_1, h_2 = _exact(module)
        inner, outer = module.contractive.operator, module.second().operator
        values = {"h_1": h_1, "h_2": h_2, "a": module.contractive.slope}
        values |= {"s_min": self._smallest(inner), "s_max": self._largest(inner)}
        values["w_max"] = self._largest(outer)
        parts = (self._norm(inner),) if outer is inner else (self._norm(inner), self._norm(outer))
        return _law("T10-flexible-switching", values, parts)

    @_of.register
    def _(self, module: Flow) -> Constant:
        parts = [(self.names[step], self._of(step)) for step in module]
        return _times("product of steps", [part.upper for _, part in parts], parts)

    @_of.register
    def _(self, module: Lift) -> Constant:
        parts = [self._norm(module.operator)]
        scale = 1.0 if module.scale is None else abs(module.scale.item())
        return _times("|scale| |lift|", [scale, parts[0][1].upper], parts)

    @_of.register
    def _(self, module: Stage) -> Constant:
        parts = [(self.names[m], self._of(m)) for m in (module.lift, module.flow, module.pool)]
        return _times("lift, flow, pool", [part.upper for _, part in parts], parts)

    @_of.register
    def _(self, module: CifarNet) -> Constant:
        values, parts = self._network(module)
        return _evaluate("T11-network", lipschitz(), values, parts)

    def _network(self, net: CifarNet) -> tuple[Values, tuple[tuple[str, Constant], ...]]:
        """The values and parts of T11 for a whole network."""
        head = self._largest(net.head)
        values, parts = {"head_max": head}, [self._norm(net.head)]
        for k, stage in enumerate(net.stages):
            flow = self._of(stage.flow)
            pool = self._of(stage.pool)
            lift = self._largest(stage.lift.operator)
            names = [str(symbol) for symbol in stage_symbols(k)]
            scale = 1.0 if stage.lift.scale is None else stage.lift.scale.item()
            values |= dict(zip(names, (scale, lift, flow.upper * pool.upper), strict=True))
            parts += [self._norm(stage.lift.operator), (self.names[stage.flow], flow)]
        return values, tuple(parts)


def _is_map(module: nn.Module) -> bool:
    """Whether a module maps inputs to outputs: containers without a forward do not."""
    return not isinstance(module, nn.ModuleList)


def _exact(step: Euler | Alternation | FlexiblePair) -> list[float]:
    """The executed times, exactly as doubles."""
    return step.times().detach().to(torch.float64).tolist()


def _law(identifier: str, values: Values, parts: tuple[tuple[str, Constant], ...]) -> Constant:
    return _evaluate(identifier, theorems()[identifier].law, values, parts)


def _evaluate(
    law: str, expression: Expr, values: Values, parts: tuple[tuple[str, Constant], ...]
) -> Constant:
    finite = all(math.isfinite(value) for value in values.values())
    upper = balls.upper(expression, values) if finite else math.inf
    return Constant(upper, law, values, parts)


def _times(law: str, factors: list[float], parts: list[tuple[str, Constant]]) -> Constant:
    """A product of nonnegative numbers, rounded up; 0 times infinity is infinity."""
    if not all(math.isfinite(factor) for factor in factors):
        return Constant(math.inf, law, {}, tuple(parts))
    return _sum(law, [math.prod(map(Fraction, factors), start=Fraction(1))], parts)


def _sum(law: str, terms: list[Fraction], parts: list[tuple[str, Constant]]) -> Constant:
    total = sum(terms, Fraction(0))
    return Constant(_round_up(total), law, {}, tuple(parts))


def _round_up(value: Fraction) -> float:
    rounded = float(value)
    return rounded if Fraction(rounded) >= value else math.nextafter(rounded, math.inf)
