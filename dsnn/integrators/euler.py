"""Explicit Euler steps with a learned step size, alone and in alternation [D7, T7-T10]."""

import torch
from torch import Tensor, nn

from dsnn.fields import GradientField, ResidualField, VectorField, convex_gradient
from dsnn.integrators.base import Step


class Euler(Step):
    """x -> x + h f(x), h = times()[0]: [T7] and [T8] say when it contracts."""

    def __init__(self, field: VectorField, time: float, *, signed: bool = True):
        super().__init__([time], signed)
        self.field = field

    def forward(self, x: Tensor) -> Tensor:
        (h,) = self.times()
        return self.field.euler(x, h)


class FixedEuler(nn.Module):
    """x -> x + h f(x) with h a constant that is not learned."""

    def __init__(self, field: VectorField, time: float):
        super().__init__()
        self.field, self.time = field, time

    def forward(self, x: Tensor) -> Tensor:
        return x + self.time * self.field(x)


class Alternation(Step):
    """The prescribed switch [T9]: `substeps` times an expansive, then a contractive Euler step.

    times() = (h_E, h_C) are the totals over the substeps; `rescaling` r in [0, 1] multiplies the
    expansive field.
    """

    def __init__(
        self,
        expansive: ResidualField,
        contractive: GradientField,
        times: tuple[float, float],
        *,
        substeps: int = 2,
        signed: bool = True,
    ):
        super().__init__(list(times), signed)
        self.expansive, self.contractive, self.substeps = expansive, contractive, substeps
        self.rescaling = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        h_e, h_c = self.times() / self.substeps
        for _ in range(self.substeps):
            x = self.expansive.euler(x, h_e * self.rescaling)
            x = self.contractive.euler(x, h_c)
        return x


class FlexiblePair(Step):
    """The flexible switch [T10]: `substeps` contractive Euler steps of total time h_1, then
    x + h_2 AᵀReLU(Ax + b), whose sign the network learns.

    times() = (h_1, h_2). With `signed=False` the pair is what the published code executes: |u|,
    and the contractive kernel and bias in the second step as well (tied), its own left unused.
    """

    def __init__(
        self,
        contractive: GradientField,
        expansive: GradientField,
        times: tuple[float, float],
        *,
        substeps: int = 2,
        signed: bool = True,
    ):
        super().__init__(list(times), signed)
        self.contractive, self.expansive, self.substeps = contractive, expansive, substeps

    def second(self) -> GradientField:
        """The field whose operator and bias the second step executes."""
        return self.expansive if self.signed else self.contractive

    def forward(self, x: Tensor) -> Tensor:
        h_1, h_2 = self.times()
        for _ in range(self.substeps):
            x = self.contractive.euler(x, h_1 / self.substeps)
        field = self.second()
        return x + convex_gradient(x, field.operator, field.bias, self.expansive.slope, h_2)
