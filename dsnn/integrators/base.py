"""What every integrator is: a map of a field, a state and a time, and what that map preserves."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from dsnn.errors import UserError
from dsnn.fields import VectorField
from dsnn.structure import closed


class Step(nn.Module):
    """A numerical step with learned times `u`; it executes them as they are, or, with
    `signed=False`, their absolute values as the published code does."""

    u: nn.Parameter

    def __init__(self, times: list[float], signed: bool = True):
        super().__init__()
        self.u = nn.Parameter(torch.tensor(times))
        self.signed = signed

    def times(self) -> Tensor:
        """The executed times, shape (len(u),)."""
        return self.u if self.signed else self.u.abs()


class Integrator(ABC):
    """A one-step method. `order` is that of the global error; `preserves` are the names of
    `dsnn.structure` which the step keeps when the field conserves them, exactly in real arithmetic.

    `fields` is what a field must be for the method to apply.
    """

    order: int
    preserves: frozenset[str]
    fields: type = VectorField

    @abstractmethod
    def advance(self, field: VectorField, x: Tensor, h: Tensor) -> Tensor:
        """x (B, ...) after the time h, a tensor with one entry; negative times run backwards."""

    def require(self, field: VectorField) -> None:
        """Raises UserError when the method does not apply to the field."""
        if not isinstance(field, self.fields):
            raise UserError(
                f"{type(self).__name__} needs a {self.fields.__name__}, and "
                f"{type(field).__name__} is none: Heun and ImplicitMidpoint take any field"
            )


class InvertibleIntegrator(Integrator):
    """A method whose step has an inverse at hand."""

    @abstractmethod
    def inverse(self, field: VectorField, y: Tensor, h: Tensor) -> Tensor:
        """The x with advance(field, x, h) = y."""


class NumericalStep(Step):
    """x -> the state after one step of `integrator` on `field`; the time is learned, or not after
    `requires_grad_(False)`.

    `claims` are what the step keeps: what the field conserves and the method preserves. Raises
    UserError when the method does not apply to the field.
    """

    def __init__(self, field: VectorField, integrator: Integrator, time: float):
        super().__init__([time])
        integrator.require(field)
        self.field, self.integrator = field, integrator

    @property
    def claims(self) -> frozenset[str]:
        return closed(self.field.conserves & self.integrator.preserves)

    def breaks(self, name: str) -> str | None:
        """Why the step does not keep the property of this name; None when it does."""
        if name in self.claims:
            return None
        field, method = type(self.field).__name__, type(self.integrator).__name__
        if name not in self.field.conserves:
            return f"the flow of {field} does not conserve it"
        return f"{method} does not preserve it"

    def forward(self, x: Tensor) -> Tensor:
        (h,) = self.times()
        return self.integrator.advance(self.field, x, h)

    def inverse(self, y: Tensor) -> Tensor:
        """Raises UserError when the method has no inverse at hand."""
        if not isinstance(self.integrator, InvertibleIntegrator):
            raise UserError(
                f"{type(self.integrator).__name__} has no explicit inverse: "
                "SymplecticEuler and StormerVerlet have one"
            )
        (h,) = self.times()
        return self.integrator.inverse(self.field, y, h)
