from dsnn.training.loss import multi_class_hinge
from dsnn.training.orthogonality import orthogonality_defect, orthogonality_penalty
from dsnn.training.projection import project
from dsnn.training.step import Losses, TrainingStep

__all__ = [
    "Losses",
    "TrainingStep",
    "multi_class_hinge",
    "orthogonality_defect",
    "orthogonality_penalty",
    "project",
]
