"""The problems that structured networks learn: right-hand sides, and their flows to round-off."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

Field = Callable[[Tensor], Tensor]
"""States (B, n) -> velocities (B, n), in float64."""
RELATIVE, ABSOLUTE = 1e-12, 1e-13
"""Tolerances of the reference integrator; the paper's are 1e-11."""


def sir(y: Tensor) -> Tensor:
    """(-y1 y2, y1 y2 - y2, y2): susceptible, infected, removed, with R0 = 1 [T14]."""
    infected = y[:, 1]
    meeting = y[:, 0] * infected
    return torch.stack([-meeting, meeting - infected, infected], 1)


def cubic(x: Tensor) -> Tensor:
    """sin(x)³ + x³, entry by entry: a gradient, so its sphere-preserving part is 0 [T1]."""
    return torch.sin(x) ** 3 + x**3


def pendulum(x: Tensor) -> Tensor:
    """(p, -sin q): neither a gradient nor tangent to circles."""
    return torch.stack([x[:, 1], -torch.sin(x[:, 0])], 1)


def pendulum_energy(x: Tensor) -> Tensor:
    """p²/2 - cos q: (B,)."""
    return x[:, 1] ** 2 / 2 - torch.cos(x[:, 0])


def pendulum_spherical(x: Tensor) -> Tensor:
    """The sphere-preserving part of the pendulum, X - grad U with U = qp/2 + p (cos q - 1)/q [T1].

    The quotients are entire functions of q; near 0 they are taken from their series.
    """
    q, p = x[:, 0], x[:, 1]
    near = q.abs() < 1e-2
    safe = torch.where(near, torch.ones_like(q), q)
    ratio = torch.where(near, -q / 2 + q**3 / 24, (torch.cos(safe) - 1) / safe)
    slope = torch.where(
        near, -0.5 + q**2 / 8 - q**4 / 144, (1 - torch.cos(safe) - safe * torch.sin(safe)) / safe**2
    )
    gradient = torch.stack([p / 2 + p * slope, q / 2 + ratio], 1)
    return pendulum(x) - gradient


def henon_heiles(x: Tensor) -> Tensor:
    """Of (q1, q2, p1, p2): regular orbits at low energies, chaotic ones above 1/8."""
    q1, q2, p1, p2 = x.unbind(1)
    return torch.stack([p1, p2, -q1 - 2 * q1 * q2, -q2 - q1**2 + q2**2], 1)


def henon_heiles_energy(x: Tensor) -> Tensor:
    """(|p|² + |q|²)/2 + q1² q2 - q2³/3: (B,)."""
    q1, q2 = x[:, 0], x[:, 1]
    return (x**2).sum(1) / 2 + q1**2 * q2 - q2**3 / 3


def rigid_body(x: Tensor) -> Tensor:
    """Euler's equations x' = x × I⁻¹x with the moments 1, 2, 3: |x| stays."""
    inverse = torch.tensor([1.0, 1 / 2, 1 / 3], dtype=x.dtype)
    return torch.linalg.cross(x, x * inverse, dim=1)


def divergence_free(x: Tensor) -> Tensor:
    """sin x_{i+1} + cos x_{i+2}, around a ring: no entry of the velocity sees its own, as in the
    ABC flow of fluid mechanics, so volume stays [T12]."""
    return torch.sin(x.roll(-1, 1)) + torch.cos(x.roll(-2, 1))


def flow(field: Field, x: Tensor, times: Sequence[float]) -> Tensor:
    """The states x (B, n) carried along the field to each of the ascending times: (T, B, n).

    All states share the steps, and the tolerances hold for the root mean square over all of them:
    the error of one may be larger, by the root of their number.
    """

    def rate(_: float, flat: np.ndarray) -> np.ndarray:
        return field(torch.from_numpy(flat).reshape(x.shape)).flatten().numpy()

    solved = solve_ivp(
        rate,
        (0.0, times[-1]),
        x.double().flatten().numpy(),
        method="DOP853",
        t_eval=times,
        rtol=RELATIVE,
        atol=ABSOLUTE,
    )
    if not solved.success:
        raise ArithmeticError(f"the reference integrator stopped: {solved.message}")
    return torch.from_numpy(np.ascontiguousarray(solved.y.T)).reshape(len(times), *x.shape)
