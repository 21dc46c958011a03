"""Certified networks whose operators have a norm of at most 1 whatever is learned.

`construct` parametrises them (`dsnn.operators.orthogonal`): 3 x 3 kernels are rescaled, matrices
that contract are Cayley transforms. So the times that the laws allow for norms of 1 are known
before training begins, and it needs no estimate. Without it, `dsnn.training.certified` estimates
norms while it trains.
"""

from typing import cast

from torch import Tensor, nn
from torch.nn.utils import parametrize

from dsnn.integrators import Euler
from dsnn.models.certified import CertifiedNet, Pair
from dsnn.operators import Convolution
from dsnn.operators.orthogonal import Cayley, Rescaled

CONSTRUCTIONS = ("measured", "parametrized")
"""Norms estimated in training and measured after it, or at most 1 by construction."""


def construct(net: CertifiedNet) -> None:
    """Parametrise, in place, every operator of the steps. The times are the caller's to set."""
    for _, step, _ in net.steps():
        first = step.steps[0] if isinstance(step, Pair) else step
        parametrize.register_parametrization(operator_of(first), "weight", Rescaled())
        if isinstance(step, Pair):
            parametrize.register_parametrization(operator_of(step.steps[1]), "weight", Cayley())


def is_constructed(net: nn.Module) -> bool:
    """Whether operators of the network are parametrised."""
    return any(parametrize.is_parametrized(module) for module in net.modules())


def export(net: CertifiedNet) -> None:
    """Replace, in place, the parametrised weights by the tensors that they are.

    `parametrize.remove_parametrizations` would take the property `weight` from a class that copies
    of the network share.
    """
    for module in net.modules():
        if parametrize.is_parametrized(module, "weight"):
            weight = nn.Parameter(cast(Tensor, module.weight).detach())
            module.__class__ = parametrize.type_before_parametrizations(module)
            del module.parametrizations
            module.register_parameter("weight", weight)


def operator_of(step: Euler) -> Convolution:
    """The operator of an Euler step's field."""
    return cast(Convolution, step.field.get_submodule("operator"))
