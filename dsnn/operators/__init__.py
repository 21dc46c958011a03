from dsnn.operators.linear import Convolution, Dense, LinearOperator

__all__ = ["Convolution", "Dense", "LinearOperator"]
