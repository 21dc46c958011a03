from dsnn.training.checkpoint import Checkpoints
from dsnn.training.engine import Limits, Plan, train
from dsnn.training.images import ResidentImages
from dsnn.training.loss import multi_class_hinge
from dsnn.training.orthogonality import orthogonality_defect, orthogonality_penalty
from dsnn.training.projection import project
from dsnn.training.schedule import Steps, WarmupLinear
from dsnn.training.step import Losses, TrainingStep

__all__ = [
    "Checkpoints",
    "Limits",
    "Losses",
    "Plan",
    "ResidentImages",
    "Steps",
    "TrainingStep",
    "WarmupLinear",
    "multi_class_hinge",
    "orthogonality_defect",
    "orthogonality_penalty",
    "project",
    "train",
]
