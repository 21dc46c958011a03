"""Training in one process or in several that torchrun started, one network in each.

Every process sees its share of each batch and averages gradients with the others before the
optimiser's step, so all hold the same weights; only the first one writes files.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn


@dataclass(frozen=True)
class Processes:
    """How many processes train together, and which of them this one is."""

    size: int = 1
    rank: int = 0

    @property
    def first(self) -> bool:
        return self.rank == 0

    def share(self, start: int, stop: int) -> tuple[int, int]:
        """This process's part of the places start..stop, whose number `size` divides."""
        length = (stop - start) // self.size
        return start + self.rank * length, start + (self.rank + 1) * length

    def average_gradients(self, optimizer: torch.optim.Optimizer) -> None:
        """From now on, `optimizer` averages the gradients over the processes before each step."""
        if self.size > 1:
            optimizer.register_step_pre_hook(lambda optimizer, *_: self._average(optimizer))

    def _average(self, optimizer: torch.optim.Optimizer) -> None:
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        gradients = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(flat)
        flat.div_(self.size)
        parts = flat.split([gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view(gradient.shape))

    def mean(self, value: Tensor) -> Tensor:
        """The mean of a tensor over the processes, the same in all of them."""
        if self.size > 1:
            value = value.clone()
            dist.all_reduce(value)
            value.div_(self.size)
        return value

    def agree(self, flag: bool, device: torch.device) -> bool:
        """What the first process says, in all of them."""
        if self.size == 1:
            return flag
        answer = torch.tensor(float(flag), device=device)
        dist.broadcast(answer, 0)
        return bool(answer)

    def same_weights(self, net: nn.Module) -> None:
        """Give every process the parameters and buffers of the first."""
        if self.size > 1:
            for tensor in net.state_dict().values():
                whole = tensor.contiguous()  # which a kernel in channels-last order is not
                dist.broadcast(whole, 0)
                tensor.copy_(whole)


ALONE = Processes()


@contextmanager
def processes(device: torch.device) -> Iterator[Processes]:
    """The processes that torchrun started, connected while the block lasts; else this one."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield ALONE
        return
    backend = "nccl" if device.type == "cuda" else "gloo"
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group(backend)
    try:
        yield Processes(size, dist.get_rank())
    finally:
        dist.destroy_process_group()


def local_device(name: str) -> str:
    """`cuda` in the process that torchrun numbered k on its machine is cuda:k."""
    rank = os.environ.get("LOCAL_RANK")
    return f"cuda:{rank}" if name == "cuda" and rank is not None else name
