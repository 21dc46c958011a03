"""`dsnn convert`: published state dicts to safetensors, checked."""

from pathlib import Path
from typing import Annotated

import typer

from dsnn.options import Json


def convert(
    weights: Annotated[Path, typer.Argument(help="A published .pt state dict.")],
    arch: Annotated[str, typer.Option(help="Its regime, e.g. switch-flexible.")],
    out: Annotated[Path, typer.Option(help="The .safetensors file to write.")],
    json: Json = None,
) -> int:
    """Convert published weights to safetensors; shapes, dtypes and finiteness are checked."""
    from dsnn.errors import UserError
    from dsnn.files import check_outputs, write_json
    from dsnn.weights import load, save

    if weights.suffix != ".pt":
        raise UserError(f"{weights} is not a published .pt file: there is nothing to convert")
    if out.suffix != ".safetensors":
        raise UserError(f"--out {out}: name it with the ending .safetensors")
    check_outputs({"--out": out, "--json": json}, weights)
    loaded = load(weights, arch)
    save(out, loaded.net, loaded.card)
    tensors = len(loaded.net.state_dict())
    count = sum(parameter.numel() for parameter in loaded.net.parameters())
    if json is not None:
        about = {"file": str(out), "sha256": loaded.sha256, "tensors": tensors, "parameters": count}
        write_json(json, {**about, **vars(loaded.card)})
    if json != "-":
        print(
            f"{out}: {arch}, {loaded.card.dataset}, {tensors} tensors, "
            f"{count:,} parameters; executes |u| as published (signed_steps false)"
        )
    return 0
