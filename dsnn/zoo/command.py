"""`dsnn zoo`: the trained networks that there are, and what is known of each."""

from dsnn.options import Data, Json


def zoo(
    data: Data = None,
    json: Json = None,
) -> int:
    """List the networks that TARGET zoo:ID/DATASET/MARGIN and dsnn.load know."""
    from dsnn.data.folder import data_folder
    from dsnn.files import check_result, write_json
    from dsnn.zoo.index import PREFIX, models

    check_result(json)
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
