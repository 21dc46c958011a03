"""Where, in which precision and on what a network is trained."""

from pathlib import Path

import torch
from torch import Tensor

from dsnn.errors import UserError

DTYPES = (torch.float32, torch.bfloat16)
"""Of the forward pass; parameters, losses and bounds are always in float32 or wider."""


def training_device(name: str) -> torch.device:
    """The device called `name` (cpu, cuda, cuda:1). Raises UserError when it is not there."""
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UserError(f"unknown device {name!r}: cpu, cuda or cuda:N") from error
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"device {name!r} is not supported: cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        found = torch.cuda.device_count()
        raise UserError(f"device {name!r} asked for, {found} CUDA devices found: use --device cpu")
    return device


def bf16_is_faster(device: torch.device) -> bool:
    """Whether `device` multiplies bfloat16 faster than float32: with AMX, AVX-512 BF16 of AMD, Arm
    BF16, or on CUDA. Intel's AVX-512 BF16 without AMX trains more slowly than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    information = Path("/proc/cpuinfo")
    if not information.is_file():
        return False
    words = set(information.read_text().split())
    amd = {"AuthenticAMD", "avx512_bf16"} <= words
    return amd or not words.isdisjoint(("amx_bf16", "bf16"))


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory is full: Python's, a GPU's, or torch's on a processor."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    signs = ("out of memory", "not enough memory", "can't allocate memory", "size calculation over")
    return isinstance(error, RuntimeError) and any(s in str(error).lower() for s in signs)


def training_dtype(dtype: torch.dtype | None, device: torch.device) -> torch.dtype:
    """`dtype`, or the fastest where it is None. Raises UserError unless it is one of DTYPES."""
    dtype = dtype or fastest_dtype(device)
    if dtype not in DTYPES:
        raise UserError(f"dtype {dtype} is not allowed: torch.float32 or torch.bfloat16")
    return dtype


def check_batch(images: Tensor, labels: Tensor, side: int) -> None:
    """Raise UserError unless these are images (B, 3, side, side) and labels (B,) with B > 0."""
    if tuple(images.shape) != (len(labels), 3, side, side) or labels.ndim != 1 or len(labels) == 0:
        raise UserError(
            f"images {tuple(images.shape)} and labels {tuple(labels.shape)} are not a batch: "
            f"(B, 3, {side}, {side}) and (B,) with B > 0"
        )


def fastest_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where the hardware multiplies it faster, else float32."""
    return torch.bfloat16 if bf16_is_faster(device) else torch.float32
