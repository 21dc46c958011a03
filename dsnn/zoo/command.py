"""`dsnn zoo`: the trained networks that there are, and what is known of each."""

from dsnn.options import Data, Json


def zoo(
    data: Data = None,
    json: Json = None,
) -> int:
    """List the networks that TARGET zoo:ID/DATASET/MARGIN and dsnn.load know."""
    from dsnn.data.folder import data_folder
    from dsnn.files import check_outputs, write_json
    from dsnn.zoo.index import PREFIX, models

    check_outputs({"--json": json})
    folder = data_folder(data)
    known = models()
    entries = [
        {
            "target": PREFIX + model.name,
            "published": model.published,
            "file": str(model.path(folder)),
            "there": model.path(folder).is_file(),
            "sha256": model.sha256,
            **model.card,
        }
        for model in known
    ]
    if json is not None:
        write_json(json, {"models": entries})
    if json != "-":
        print(f"published weights are looked for in {folder}")
        for model, entry in zip(known, entries, strict=True):
            facts = [f"{name}: {fact}" for name, fact in model.card.items() if fact]
            missing = [] if entry["there"] else [f"its file is missing: {model.remedy}"]
            print(f"  {entry['target']}")
            print(f"    {'; '.join([*facts, *missing])}")
    return 0
