"""torchvision, importable also where its compiled operators are missing.

The CPU build of torch comes with a torchvision whose compiled library does not load. Its import
then fails on two operators that it extends but did not declare, `nms` and `qnms`. Declaring them
(schemas only, no kernels: nothing here detects objects) lets the rest of torchvision import.
Everything in this project takes `torchvision` from here.
"""

import sys

import torch

_UNDECLARED = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}


def _declare_missing() -> torch.library.Library:
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name, schema in _UNDECLARED.items():
        if not hasattr(torch.ops.torchvision, name):
            library.define(schema)
    return library


try:
    import torchvision
except RuntimeError as error:
    if "torchvision::" not in str(error):
        raise
    for half_imported in [n for n in sys.modules if n.split(".")[0] == "torchvision"]:
        del sys.modules[half_imported]
    _library = _declare_missing()  # the declarations last as long as this object
    import torchvision

__all__ = ["torchvision"]
