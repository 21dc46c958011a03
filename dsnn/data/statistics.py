"""Images: their size, and the input normalisation per channel, for pixels in [0, 1].

Two protocols read them. `consistent` normalises with the statistics a network was trained with;
`published` with those the paper's authors evaluated with, which for one regime are others (notes
on the paper, section 8, number 14).
"""

from dsnn.errors import UserError

Channels = tuple[float, float, float]
SIDE = 32
"""Height and width of all images here."""

TRAINING: dict[str, tuple[Channels, Channels]] = {
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "cifar100": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "generated": ((0.5, 0.5, 0.5), (0.25, 0.25, 0.25)),
}

_PRESCRIBED_CIFAR10_STD: Channels = (0.247, 0.243, 0.261)


def training(dataset: str) -> tuple[Channels, Channels]:
    """Mean and standard deviation used in training on `dataset`; UserError on another name."""
    if dataset not in TRAINING:
        known = ", ".join(sorted(TRAINING))
        raise UserError(
            f"no normalisation statistics for data set {dataset!r}: choose from {known}"
        )
    return TRAINING[dataset]


def published_evaluation(arch: str, dataset: str) -> tuple[Channels, Channels]:
    """Mean and standard deviation the authors evaluated regime `arch` on `dataset` with."""
    mean, std = training(dataset)
    if (arch, dataset) == ("switch-prescribed", "cifar10"):
        return mean, _PRESCRIBED_CIFAR10_STD
    return mean, std
