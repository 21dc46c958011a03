"""`dsnn convert`: published state dicts to safetensors, checked."""

from pathlib import Path
from typing import Annotated

import typer


def convert(
    weights: Annotated[Path, typer.Argument(help="A published .pt state dict.")],
    arch: Annotated[str, typer.Option(help="Its regime, for instance switch-flexible.")],
    out: Annotated[Path, typer.Option(help="The .safetensors file to write.")],
) -> int:
    """Convert published weights to safetensors; shapes, dtypes and finiteness are checked."""
    from dsnn.errors import UserError
    from dsnn.files import check_writable
    from dsnn.weights import load, save

    if weights.suffix != ".pt":
        raise UserError(f"{weights} is not a published .pt file: there is nothing to convert")
    if out.suffix != ".safetensors":
        raise UserError(f"--out {out}: name it with the ending .safetensors")
    check_writable(out)
    loaded = load(weights, arch)
    save(out, loaded.net, loaded.card)
    count = sum(parameter.numel() for parameter in loaded.net.parameters())
    print(
        f"{out}: {arch}, {loaded.card.dataset}, {len(loaded.net.state_dict())} tensors, "
        f"{count:,} parameters; executes |u| as published (signed_steps false)"
    )
    return 0
