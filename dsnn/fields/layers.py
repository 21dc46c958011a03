"""The pieces that fields are made of: a layer σ(Ax + b), and skew matrices that depend on x."""

import torch
from torch import Tensor, nn

from dsnn.activations import activation
from dsnn.errors import UserError
from dsnn.operators import Dense, LinearOperator


class Layer(nn.Module):
    """x -> σ(Ax + b); b is one number a feature or channel."""

    def __init__(self, operator: LinearOperator, act: str = "tanh"):
        super().__init__()
        self.operator, self.activation = operator, activation(act)
        self.bias = nn.Parameter(torch.zeros(operator.outputs))

    def forward(self, x: Tensor) -> Tensor:
        return self.activation.function(self.operator(x, self.bias))


class SkewEntries(nn.Module):
    """x (B, n) -> the n (n - 1) / 2 entries above the diagonal, C σ(Bx + c) + d [T2'].

    Row by row. `outer` is an activation of the entries as well, as in the paper's mass-preserving
    networks [T14].
    """

    def __init__(self, dim: int, hidden: int, act: str = "tanh", outer: str | None = None):
        super().__init__()
        if dim < 2:
            raise UserError(f"a skew matrix of side {dim} is 0: at least 2")
        self.dim = dim
        self.inner: nn.Module = Layer(Dense(dim, hidden), act)
        self.operator = Dense(hidden, dim * (dim - 1) // 2)
        self.bias = nn.Parameter(torch.zeros(dim * (dim - 1) // 2))
        self.outer = None if outer is None else activation(outer)

    def forward(self, x: Tensor) -> Tensor:
        entries = self.operator(self.inner(x), self.bias)
        return entries if self.outer is None else self.outer.function(entries)


class SkewMatrix(nn.Module):
    """x -> Λ(x) (B, n, n), skew to the last bit: every entry below is the one above, negated."""

    index: Tensor

    def __init__(self, entries: SkewEntries):
        super().__init__()
        self.entries = entries
        self.register_buffer("index", _places(entries.dim), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        v = self.entries(x)
        numbers = torch.cat([torch.zeros_like(v[:, :1]), v, -v], 1)
        return numbers.index_select(1, self.index).reshape(len(x), *[self.entries.dim] * 2)


class ConstantSkew(nn.Module):
    """x -> S (1, n, n), the same for all states. Raises UserError unless S is skew."""

    matrix: Tensor

    def __init__(self, matrix: Tensor):
        super().__init__()
        self.register_buffer("matrix", require_skew(matrix)[None])

    def forward(self, x: Tensor) -> Tensor:
        return self.matrix


def require_skew(matrix: Tensor) -> Tensor:
    """The matrix; raises UserError unless it is square and Sᵀ = -S to the last bit."""
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise UserError(f"a skew matrix is square: this has the shape {tuple(matrix.shape)}")
    defect = (matrix + matrix.T).abs()
    # A NaN is not equal to 0 either.
    if not bool((defect == 0).all()):
        i, j = divmod(int(defect.argmax()), len(matrix))
        raise UserError(
            f"not skew: entries ({i}, {j}) and ({j}, {i}) are {matrix[i, j]:g} and "
            f"{matrix[j, i]:g}: give M - M.T"
        )
    return matrix


def apply_matrix(matrix: Tensor, x: Tensor) -> Tensor:
    """(B or 1, n, n) and (B, n) -> (B, n)."""
    return (matrix @ x[:, :, None])[:, :, 0]


def _places(dim: int) -> Tensor:
    """Where each entry of the matrix is in (0, v, -v), flat: (n n,)."""
    upper = torch.triu_indices(dim, dim, 1)
    count = upper.shape[1]
    places = torch.zeros(dim, dim, dtype=torch.long)
    places[upper[0], upper[1]] = torch.arange(1, count + 1)
    places[upper[1], upper[0]] = torch.arange(count + 1, 2 * count + 1)
    return places.flatten()
