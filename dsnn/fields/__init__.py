from dsnn.fields.base import VectorField
from dsnn.fields.gradient import GradientField, convex_gradient
from dsnn.fields.residual import ResidualField, TwoLayerField

__all__ = ["GradientField", "ResidualField", "TwoLayerField", "VectorField", "convex_gradient"]
