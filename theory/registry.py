"""Every theorem by its id: those of this package, and those of installed packages."""

import sys
from contextlib import redirect_stdout
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from theory.approximation import approximation, obstruction
from theory.budget import euler_budget
from theory.curvature import gradient_radius
from theory.field import Field
from theory.field_theorem import theorem_of
from theory.flows import flow, switching_flow
from theory.hamiltonian_lift import hamiltonian_lift
from theory.invariants import (
    discrete_gradient,
    euler_growth,
    first_integral,
    gauss,
    projection,
    relaxation,
)
from theory.lattice import maximum_step
from theory.margin import margin_certificate
from theory.mass import mass, mass_projection
from theory.naive import naive
from theory.network import network
from theory.nonexpansive import (
    contractive_euler,
    expansive_euler,
    expansive_gradient_euler,
    nonexpansive_euler,
)
from theory.padding import padded_switching
from theory.presnov import presnov_decomposition, presnov_uniqueness
from theory.presnov_layers import difference_of_convex, gradient_layer, skew_density
from theory.runge_kutta import b_stable, circle_contractive, lipschitz_euler
from theory.splitting import lie_trotter, strang
from theory.switching import flexible_switching, switching
from theory.symmetry import equivariance, shift_equivariance
from theory.symplectic import implicit_midpoint, no_vanishing_gradient, symplectic_shears
from theory.theorem import Theorem
from theory.tied import tied_switching
from theory.volume import volume

OURS = (
    presnov_decomposition,
    presnov_uniqueness,
    approximation,
    lie_trotter,
    strang,
    obstruction,
    skew_density,
    gradient_layer,
    hamiltonian_lift,
    difference_of_convex,
    margin_certificate,
    gradient_radius,
    flow,
    switching_flow,
    euler_budget,
    contractive_euler,
    nonexpansive_euler,
    expansive_euler,
    expansive_gradient_euler,
    circle_contractive,
    b_stable,
    lipschitz_euler,
    switching,
    padded_switching,
    flexible_switching,
    tied_switching,
    network,
    maximum_step,
    naive,
    volume,
    symplectic_shears,
    no_vanishing_gradient,
    implicit_midpoint,
    mass,
    mass_projection,
    first_integral,
    discrete_gradient,
    gauss,
    relaxation,
    projection,
    euler_growth,
    equivariance,
    shift_equivariance,
)


def theorems() -> dict[str, Theorem]:
    """All registered theorems by id, ours first.

    A package adds its own through the entry-point group `dsnn.theorems`, and fields, each of which
    becomes a theorem, through `dsnn.fields`; an entry is a Theorem, or a Field, or a tuple of them.
    Raises ValueError where an entry is something else or an id is taken.
    """
    registered = {theorem.id: theorem for theorem in OURS}
    loaded = _loaded("dsnn.theorems", Theorem)
    loaded += [(where, theorem_of(field)) for where, field in _loaded("dsnn.fields", Field)]
    for where, theorem in loaded:
        if theorem.id in registered:
            raise ValueError(f"two theorems are called {theorem.id}: rename {where}")
        registered[theorem.id] = theorem
    return registered


def fields() -> dict[str, Field]:
    """The registered fields by id. Raises ValueError as `theorems`."""
    return {field.id: field for _, field in _loaded("dsnn.fields", Field)}


def load(entry: EntryPoint) -> Any:
    """What a package registers. What it prints goes to stderr, as stdout may be a JSON."""
    with redirect_stdout(sys.stderr):
        return entry.load()


def _loaded(group: str, kind: type) -> list[tuple[str, Any]]:
    """What packages register in a group, with where it is from."""
    found = []
    for entry in sorted(entry_points(group=group)):
        try:
            loaded = load(entry)
        except (Exception, SystemExit) as error:
            raise ValueError(
                f"{entry.name} = {entry.value} of group {group}: {type(error).__name__}: {error}"
            ) from error
        for one in loaded if isinstance(loaded, tuple) else (loaded,):
            if not isinstance(one, kind):
                raise ValueError(
                    f"the entry point {entry.name} = {entry.value} of group {group} is a "
                    f"{type(one).__name__}: register a theory.{kind.__name__} or a tuple of them"
                )
            found.append((entry.value, one))
    return found
