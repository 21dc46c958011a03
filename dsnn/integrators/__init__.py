from dsnn.integrators.euler import Alternation, Euler, FixedEuler, FlexiblePair, Step

__all__ = ["Alternation", "Euler", "FixedEuler", "FlexiblePair", "Step"]
