"""Networks that keep a property by construction: lift, flow and projection, each of which keeps it.

What is refused, is refused when the network is built, with the reason. `net.property` is the claim
that `dsnn audit` then checks on the trained weights.
"""

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import cast

from torch import Tensor, nn

from dsnn.errors import UserError
from dsnn.fields import (
    LiftedField,
    SumField,
    VectorField,
    mass_field,
    presnov_field,
    separable_hamiltonian,
    sphere_field,
    volume_field,
)
from dsnn.fields.hamiltonian import half
from dsnn.integrators import (
    Gonzalez,
    Heun,
    Integrator,
    LieTrotter,
    LiftedEuler,
    NumericalStep,
    RelaxedHeun,
    StormerVerlet,
    SymplecticEuler,
)
from dsnn.integrators.explicit import ExplicitEuler
from dsnn.models.layers import MassProjection, StructuredLayer, ZeroLift
from dsnn.structure import ENERGY, MASS, NORM, PROPERTIES, SYMPLECTIC, VOLUME


class StructuredNet(nn.Module):
    """x -> projection(flow(lift(x))), all of which keep `property`, one of `PROPERTIES`.

    `flow` is a sequence of steps and layers; more lifts and projections may stand among them.
    Raises UserError on an unknown property and on a part that does not keep it.
    """

    def __init__(
        self,
        property: str,
        lift: nn.Module,
        flow: Iterable[nn.Module],
        projection: nn.Module,
    ):
        super().__init__()
        if property not in PROPERTIES:
            raise UserError(f"unknown property {property!r}: one of {', '.join(PROPERTIES)}")
        self.property = property
        self.lift, self.flow, self.projection = lift, nn.Sequential(*flow), projection
        for name, part in self._parts():
            why = breaks(part, property)
            if why is not None:
                raise UserError(f"{name} ({type(part).__name__}) is not {property}: {why}")
        fields = {part.field for part in self.modules() if isinstance(part, NumericalStep)}
        if property == ENERGY and len(fields) > 1:
            raise UserError(
                f"{len(fields)} fields have an energy each, and their steps together keep none: "
                "give all steps one field"
            )

    def _parts(self) -> list[tuple[str, nn.Module]]:
        steps = [(f"flow.{name}", step) for name, step in self.flow.named_children()]
        return [("lift", self.lift), *steps, ("projection", self.projection)]

    def forward(self, x: Tensor) -> Tensor:
        return self.projection(self.flow(self.lift(x)))

    def inverse(self, y: Tensor) -> Tensor:
        """The x with forward(x) = y. Raises UserError when a part has no inverse at hand."""
        for name, part in reversed(self._parts()):
            if isinstance(part, nn.Identity):
                continue
            backwards = getattr(part, "inverse", None)
            if backwards is None:
                raise UserError(f"{name} ({type(part).__name__}) has no inverse")
            y = cast(Callable[[Tensor], Tensor], backwards)(y)
        return y


def breaks(part: nn.Module, property: str) -> str | None:
    """Why a part of a network does not keep the property; None when it is known to."""
    if isinstance(part, nn.Identity):
        return None
    if isinstance(part, NumericalStep | StructuredLayer):
        return part.breaks(property)
    if isinstance(part, nn.Sequential):
        reasons = (breaks(step, property) for step in part)
        return next((why for why in reasons if why is not None), None)
    return f"nothing is known of {type(part).__name__}: use steps of fields and dsnn.models.layers"


def mass_network(
    sizes: Sequence[int],
    layers: int,
    hidden: int,
    act: str = "relu",
    outer: str | None = None,
    *,
    integrator: Integrator | None = None,
    time: float = 0.1,
) -> StructuredNet:
    """Mass-preserving [T14]: sizes[0] entries, then for each further size a lift or projection to
    it, with `layers` steps of `hidden` rows behind all but the last.

    sizes = (3, 10, 10, 15, 3) is the paper's network for SIR. Raises UserError for less than three
    sizes.
    """
    if len(sizes) < 3:
        raise UserError(f"sizes {tuple(sizes)}: at least the input, one state and the output")
    parts: list[nn.Module] = []
    method = integrator or ExplicitEuler()
    for before, size in itertools.pairwise(sizes):
        parts.append(ZeroLift(before, size) if size >= before else MassProjection(before, size))
        for _ in range(layers):
            parts.append(NumericalStep(mass_field(size, hidden, act, outer), method, time))
    # The steps behind the last size are none of the network's.
    lift, *flow, projection = parts[: len(parts) - layers]
    return StructuredNet(MASS, lift, flow, projection)


def norm_network(dim: int, layers: int, hidden: int, act: str = "tanh", *, time: float = 0.1):
    """Norm-preserving: relaxed Heun steps of Λ(x) x [D3, T15]."""
    flow = [
        NumericalStep(sphere_field(dim, hidden, act), RelaxedHeun(), time) for _ in range(layers)
    ]
    return StructuredNet(NORM, nn.Identity(), flow, nn.Identity())


def volume_network(dim: int, layers: int, act: str = "tanh", *, time: float = 0.1):
    """Volume-preserving, with an inverse: pairs of shears [T12]. Raises UserError for dim < 2."""
    flow = [NumericalStep(volume_field(dim, act), SymplecticEuler(), time) for _ in range(layers)]
    return StructuredNet(VOLUME, nn.Identity(), flow, nn.Identity())


def symplectic_network(dim: int, layers: int, width: int, act: str = "tanh", *, time: float = 0.1):
    """Symplectic, with an inverse: Störmer-Verlet steps of separable Hamiltonians [T13].

    Raises UserError on an odd dimension.
    """
    half(dim)
    fields = [separable_hamiltonian(dim, width, act) for _ in range(layers)]
    flow = [NumericalStep(field, StormerVerlet(), time) for field in fields]
    return StructuredNet(SYMPLECTIC, nn.Identity(), flow, nn.Identity())


class PresnovNet(nn.Module):
    """P∘Ψ∘L with free linear L and P and Ψ made of steps of grad U + Λ(x) x [T2'].

    The gradient part by Heun's method, or with `discrete=True` by Gonzalez' discrete gradient,
    along which U is monotone; then the spherical part by relaxed Heun. It keeps nothing, and is
    what T2 says approximates everything that flows do.
    """

    def __init__(
        self,
        inputs: int,
        dim: int,
        outputs: int,
        layers: int,
        width: int,
        hidden: int,
        act: str = "tanh",
        *,
        discrete: bool = False,
        time: float = 0.1,
    ):
        super().__init__()
        self.lift, self.projection = nn.Linear(inputs, dim), nn.Linear(dim, outputs)
        method = LieTrotter(Gonzalez() if discrete else Heun(), RelaxedHeun())
        fields: list[SumField] = [presnov_field(dim, width, hidden, act) for _ in range(layers)]
        self.flow = nn.Sequential(*(NumericalStep(field, method, time) for field in fields))

    def forward(self, x: Tensor) -> Tensor:
        return self.projection(self.flow(self.lift(x)))


class HamiltonianLift(nn.Module):
    """x -> (x, 0) -> symplectic Euler steps for H = <p, f_i(x)> -> x [T3].

    Its value is that of the ResNet with the layers x + h f_i(x), bit for bit; `flow` is symplectic.
    States (B, n). Raises UserError where a step does not exist, which h |Df_i| < 1 rules out.
    """

    def __init__(self, fields: Iterable[VectorField], time: float):
        super().__init__()
        self.flow = nn.Sequential(
            *(NumericalStep(LiftedField(field), LiftedEuler(), time) for field in fields)
        )

    def forward(self, x: Tensor) -> Tensor:
        n = x.shape[1]
        return self.flow(ZeroLift(n, 2 * n)(x))[:, :n]
