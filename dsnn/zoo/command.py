"""`dsnn zoo`: the trained networks that there are, and what is known of each."""

from pathlib import Path
from typing import Annotated

import typer


def zoo(
    data: Annotated[
        Path | None, typer.Option(help="The data folder; else DSNN_DATA, else your cache.")
    ] = None,
    json: Annotated[str | None, typer.Option(metavar="FILE", help="Result; - is stdout.")] = None,
) -> int:
    """List the networks that TARGET zoo:ID/DATASET/MARGIN and dsnn.load know."""
    from dsnn.data.folder import data_folder
    from dsnn.files import check_writable, write_json
    from dsnn.zoo.index import PREFIX, models

    if json not in (None, "-"):
        check_writable(Path(json))
    folder = data_folder(data)
    entries = [
        {
            "target": PREFIX + model.name,
            "published": model.published,
            "file": str(model.path(folder)),
            "there": model.path(folder).is_file(),
            "sha256": model.sha256,
            **model.card,
        }
        for model in models()
    ]
    if json is not None:
        write_json(json, {"models": entries})
    if json != "-":
        print(f"published weights are looked for in {folder}")
        for entry in entries:
            facts = [entry["proved"], entry["arithmetic"], entry["accuracy"], entry["trained"]]
            missing = [] if entry["there"] else ["missing: dsnn data weights"]
            print(f"  {entry['target']}")
            print(f"    {'; '.join(filter(None, [*facts, *missing]))}")
    return 0
