"""Many seeds of a small network trained at once: one vectorised step for all of them.

The networks are stacked along a first dimension, and torch.func maps the gradient of the loss over
it; a long training runs the operations that this comes down to, traced once. Adam acts entry by
entry, so each seed takes the very steps that it takes alone, to rounding.
"""

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, stack_module_state, vmap
from torch.fx.experimental.proxy_tensor import make_fx

from dsnn.errors import UserError

Model = Callable[[Tensor], Tensor]
Loss = Callable[[Model, Tensor, Tensor], Tensor]
Gradients = Callable[
    [dict[str, Tensor], Tensor, Tensor], tuple[dict[str, Tensor], Tensor]
]  # of the weights, and the losses
TRACED = 400
"""Updates from which tracing pays: it takes as long as some 80 of them, and halves each."""


def mean_square(model: Model, x: Tensor, y: Tensor) -> Tensor:
    """The mean of (model(x) - y)² over all entries."""
    return F.mse_loss(model(x), y)


@dataclass(frozen=True)
class Schedule:
    """Adam with the learning rate `rate`, multiplied by `factor` every `every` epochs."""

    epochs: int
    batch: int
    rate: float = 1e-2
    weight_decay: float = 0.0
    every: int = 60
    factor: float = 0.1


@dataclass(frozen=True)
class Ensemble:
    """The trained networks, one a seed, and their mean losses (epochs, seeds) while training."""

    networks: tuple[nn.Module, ...]
    losses: Tensor


def train_ensemble(
    make: Callable[[], nn.Module],
    seeds: Sequence[int],
    x: Tensor,
    y: Tensor,
    schedule: Schedule,
    *,
    loss: Loss = mean_square,
) -> Ensemble:
    """Train `make()` on inputs x (N, ...) and targets y (N, ...), once a seed.

    A seed decides the initial weights and the order of the batches; the last batch of an epoch may
    be smaller. `loss` gets the network as a function, so it may unroll it. What looks at numbers
    while it computes, as implicit solvers do, cannot be mapped over. All is float64 on a processor.
    Raises UserError without seeds or data, on inputs and targets that differ in number, on networks
    with learned buffers, and when a loss is not finite.
    """
    if not seeds or len(x) != len(y) or len(x) == 0:
        raise UserError(f"{len(seeds)} seeds, {len(x)} inputs, {len(y)} targets: some, and as many")
    x, y = x.to("cpu", torch.float64), y.to("cpu", torch.float64)
    networks = [_seeded(make, seed).to("cpu", torch.float64) for seed in seeds]
    stacked, _ = stack_module_state(networks)
    shell, buffers = copy.deepcopy(networks[0]), _shared_buffers(networks)

    def objective(weights: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return loss(lambda state: functional_call(shell, (weights, buffers), (state,)), x, y)

    mapped: Gradients = vmap(grad_and_value(objective))
    updates = schedule.epochs * math.ceil(len(x) / schedule.batch)
    step = _Traced(mapped) if updates >= TRACED else mapped
    optimizer = torch.optim.Adam(
        stacked.values(), lr=schedule.rate, weight_decay=schedule.weight_decay, fused=True
    )
    decay = torch.optim.lr_scheduler.StepLR(optimizer, schedule.every, schedule.factor)
    history = []
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    for epoch in range(schedule.epochs):
        total = torch.zeros(len(seeds), dtype=torch.float64)
        for chosen in _batches(generators, len(x), schedule.batch):
            gradients, values = step(stacked, x[chosen], y[chosen])
            for name, weight in stacked.items():
                weight.grad = gradients[name]
            optimizer.step()
            total += values.detach() * chosen.shape[1]
        decay.step()
        history.append(total / len(x))
        if not bool(total.isfinite().all()):
            lost = [seed for seed, value in zip(seeds, total, strict=True) if not value.isfinite()]
            raise UserError(
                f"the loss of seeds {lost} is not finite in epoch {epoch}: lower the rate "
                f"{schedule.rate:g}"
            )
    with torch.no_grad():
        for k, network in enumerate(networks):
            for name, weight in network.named_parameters():
                weight.copy_(stacked[name][k])
    return Ensemble(tuple(networks), torch.stack(history).cpu())


class _Traced:
    """The same function, run as the bare operations that one call of it comes down to, without
    the layers of torch.func; traced once for each number of examples."""

    def __init__(self, function: Gradients):
        self.function, self.programs = function, dict[torch.Size, Gradients]()

    @torch.no_grad()
    def __call__(self, weights: dict[str, Tensor], x: Tensor, y: Tensor):
        if x.shape not in self.programs:
            self.programs[x.shape] = make_fx(self.function)(weights, x, y)
        return self.programs[x.shape](weights, x, y)


def _seeded(make: Callable[[], nn.Module], seed: int) -> nn.Module:
    """A network with the weights of this seed; the global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()


def _batches(generators: list[torch.Generator], count: int, batch: int) -> Iterator[Tensor]:
    """Indices (seeds, batch), every seed in an order of its own."""
    orders = [torch.randperm(count, generator=generator) for generator in generators]
    yield from torch.stack(orders).split(batch, 1)


def _shared_buffers(networks: list[nn.Module]) -> dict[str, Tensor]:
    """The buffers, which must be constants of the architecture."""
    shared = dict(networks[0].named_buffers())
    for network in networks[1:]:
        for name, buffer in network.named_buffers():
            if not torch.equal(buffer, shared[name]):
                raise UserError(f"buffer {name} differs between seeds: only parameters are trained")
    return shared
