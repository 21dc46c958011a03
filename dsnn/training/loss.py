"""The loss of the paper's classifiers: multi-class hinge with a margin [D5]."""

import torch
import torch.nn.functional as F
from torch import Tensor


def multi_class_hinge(scores: Tensor, labels: Tensor, margin: float) -> Tensor:
    """(1/B) Σ_i Σ_{j ≠ y_i} max(0, margin - (N_y - N_j)) for scores N (B, C) and labels y (B,).

    A scalar, computed in float32 or the wider dtype of `scores`, never in half precision.
    """
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
    own = labels.unsqueeze(1)
    slack = F.relu(margin - scores.gather(1, own) + scores)
    return slack.scatter(1, own, 0.0).sum() / len(scores)
