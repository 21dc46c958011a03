"""How many images a network classifies rightly, in float32."""

import torch
from torch import nn

from dsnn.training.images import ResidentImages

BATCH = 250


@torch.no_grad()
def correct(net: nn.Module, images: ResidentImages) -> int:
    """The images whose largest score is their label's; a score that is no number is wrong.

    `net` is called in eval mode, past any compiled form, and left in the mode it was in.
    """
    training = net.training
    net.eval()
    right = torch.zeros((), dtype=torch.int64, device=images.device)
    for start in range(0, len(images), BATCH):
        batch, labels = images.plain(start, start + BATCH)
        scores = net.forward(batch)
        right += ((scores.argmax(1) == labels) & scores.isfinite().all(1)).sum()
    net.train(training)
    return int(right)
