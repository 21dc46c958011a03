"""The network as it is executed and attacked: float32, pixels in, normalisation inside."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from dsnn.data.statistics import Channels
from dsnn.errors import UserError
from dsnn.training.precision import out_of_memory


def device_named(name: str) -> torch.device:
    """The device `cpu` or `cuda`; UserError where CUDA is asked for and absent."""
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: no CUDA device is usable here; use --device cpu")
    return torch.device(name)


class Executed(nn.Module):
    """Images (B, 3, 32, 32) in [0, 1] -> logits (B, classes) of `net` after (x - mean) / std.

    A copy in eval mode without parameter gradients, stored channels last, which convolves about
    twice as fast on a CPU; all arithmetic is float32.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, net: nn.Module, mean: Channels, std: Channels, device: torch.device):
        super().__init__()
        self.net = copy.deepcopy(net)
        self.register_buffer("mean", torch.tensor(mean).reshape(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).reshape(1, 3, 1, 1))
        self.eval().requires_grad_(False)
        self.to(device, torch.float32)
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def forward(self, images: Tensor) -> Tensor:
        normalised = (images - self.mean) / self.std
        return self.net(normalised.contiguous(memory_format=torch.channels_last))


@contextmanager
def exact_float32() -> Iterator[None]:
    """No TF32 in convolutions and products, and deterministic kernels, while it lasts."""
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.backends.cudnn.flags(
            enabled=True, benchmark=False, deterministic=True, allow_tf32=False
        ):
            yield
    finally:
        torch.set_float32_matmul_precision(precision)


@contextmanager
def memory_errors(device: str, kept: Path) -> Iterator[None]:
    """Turn running out of memory, on the CPU or a GPU, into a UserError.

    Batches are not made smaller instead: random starts are drawn by the batch, and a result that
    depends on free memory would not be the same on two machines.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        other = " or use --device cpu," if device != "cpu" else ""
        raise UserError(
            f"out of memory on --device {device}; finished shards are kept in {kept}: free some,"
            f"{other} and run the same command again"
        ) from error
