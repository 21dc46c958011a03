"""Singular values of linear maps from their weights, proved in float64 with a-priori errors.

A Cholesky factorisation LL' = M + E that runs to completion proves that no eigenvalue of M is
below -|E| [Higham, theorem 10.3], so M = shift I - A'A bounds |A|^2 and M = A'A - shift I bounds
inf |Ax|^2 / |x|^2. A is a matrix, or the blocks of a
circular convolution in the Fourier basis ("torus"). Zero padding is a compression of the circular
operator on a torus at least d (k - 1) longer than the image: the norm of that is no smaller.
Assumed: IEEE doubles, and products of matrices as sums of products in any order.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from verification.checker.reading import Node, Wrong, agree
from verification.checker.values import outputs
from verification.checker.work import CALL, spend

Array = np.ndarray
U = 2.0**-53
UP, DOWN = 1 + 2.0**-40, 1 - 2.0**-40
"""Cover the handful of roundings that combine one bound."""
LARGEST_GRAM = 4096
MARGIN = 1e-6
"""Distance of a factorisation's shift from the square that is to be shown, relative."""
LARGEST_WORK = 1e12
"""Operations for one operator, above which the checker refuses."""
_CHUNK = 2**21


def gamma(n: float) -> float:
    """An inner product of length n errs by at most this times that of the absolute values."""
    agree(n * U < 0.01, "an inner product is too long for its error bound")
    return n * U / (1 - n * U) * UP


@dataclass(frozen=True)
class Operator:
    """A convolution by `kernel` (groups, m, n, k, l) of images of `extent`; a matrix is one of
    images of one pixel. `transposed` when its adjoint is executed."""

    kernel: Array
    extent: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[tuple[int, int], tuple[int, int]] = ((0, 0), (0, 0))
    dilation: tuple[int, int] = (1, 1)
    circular: bool = False
    outputs: tuple[int, int] = (1, 1)
    transposed: bool = False

    def sides(self) -> tuple[int, int]:
        """The sides of a torus whose circular operator dominates this one."""
        found = []
        for dim, size in enumerate(self.kernel.shape[3:]):
            side, d = self.extent[dim], self.dilation[dim]
            if not self.circular:
                near = d == 1 and max(self.padding[dim]) <= size // 2
                side += size // 2 if near else d * (size - 1)
                side += -side % self.stride[dim]
            found.append(side)
        return found[0], found[1]

    def copies(self) -> int:
        """How often one output of the circular operator occurs at most among the executed ones."""
        if not self.circular:
            return 1
        pairs = zip(self.extent, self.stride, self.outputs, strict=True)
        return math.prod(-(-o // (n // math.gcd(n, s))) for n, s, o in pairs)

    def is_torus(self) -> bool:
        """Whether it is a circular operator, each output once; a single tap without padding is."""
        pointwise = self.kernel.shape[3:] == (1, 1) and not any(map(sum, self.padding))
        return (self.circular or pointwise) and all(
            n == s * o for n, s, o in zip(self.extent, self.stride, self.outputs, strict=True)
        )

    def counts(self) -> tuple[int, int]:
        """Numbers of outputs and inputs."""
        g, m, n = self.kernel.shape[:3]
        return g * m * math.prod(self.outputs), g * n * math.prod(self.extent)


def operator(node: Node, extent: tuple[int, ...]) -> Operator:
    """The operator of a node of kind linear, conv or adjoint, without its factor and its bias."""
    weight = node.constants["weight"].values.astype(np.float64)
    if node.kind == "linear":
        return Operator(weight[None, :, :, None, None])
    transposed = node.kind == "adjoint"
    extent = tuple(node.attributes["extent"]) if transposed else extent
    size = outputs(node, extent)
    at = node.attributes
    two = [list(extent), at["stride"], at["padding"], at["dilation"], list(size)]
    if len(extent) == 1:
        weight = weight[:, :, None, :]
        two = [[fill, *v] for fill, v in zip((1, 1, [0, 0], 1, 1), two, strict=True)]
    e, s, p, d, o = ((v[0], v[1]) for v in two)
    agree(min(*e, *o) >= 1, f"{node.name} is one of empty images")
    kernel = weight.reshape(at["groups"], -1, *weight.shape[1:])
    pads = ((p[0][0], p[0][1]), (p[1][0], p[1][1]))
    return Operator(kernel, e, s, pads, d, at["circular"], o, transposed)


def shown(op: Operator, bound: float, sign: int) -> bool:
    """Whether all singular values are at most (sign -1), or at least (sign 1), `bound`. Raises
    Wrong where a factorisation fails."""
    return quickly(op, bound, sign) or on_plane(op, bound, sign)


def quickly(op: Operator, bound: float, sign: int) -> bool:
    """`shown` without the factorisation of a zero-padded convolution."""
    if sign > 0 and bound <= 0:
        return True
    if not op.kernel.any():
        return sign < 0 <= bound
    return (sign < 0 and _sums(op) <= bound) or on_torus(op, bound, sign)


def _sums(op: Operator) -> float:
    """|A|^2 <= the largest row sum of |A| times the largest column sum; exact sums of one term."""
    spend(20 * op.kernel.size)
    found = []
    for axes in ((2, 3, 4), (1, 3, 4)):
        total = float(np.abs(op.kernel).sum(axes).max())
        single = int(np.count_nonzero(op.kernel, axes).max()) <= 1
        found.append(total if single else total * (1 + gamma(op.kernel.size)) * UP)
    rows, columns = found
    underflows = rows * columns < 2.0**-900
    bound = max(found) if rows == columns or underflows else math.sqrt(rows * columns * UP) * UP
    return bound if op.copies() == 1 else math.inf


def _rows_suffice(op: Operator) -> bool:
    """Whether it has as many outputs as inputs, where more are as good: else inf |Ax| / |x| is 0,
    or not the least singular value."""
    rows, columns = op.counts()
    return rows == columns or (rows > columns and not op.transposed)


# Circular operators and matrices, by blocks. ---------------------------------------------------


def largest(op: Operator) -> float:
    """Upper bound on the largest singular value, little above it on the torus."""
    if not op.kernel.any():
        return 0.0
    blocks = (_peak(symbol) for symbol, _ in _blocks(op))
    estimate = math.sqrt(max(0.0, max(blocks)) * op.copies())
    for slack in (1e-9, 1e-7, 1e-5):
        if on_torus(op, estimate * (1 + slack), -1):
            return min(estimate * (1 + slack), _sums(op))
    raise Wrong("no bound on a norm could be verified")


def _peak(stack: Array) -> float:
    """About the largest of the squared singular values of a stack."""
    gram, _ = _gram(stack)
    spend(10.0 * gram.size * gram.shape[1])
    return float(np.linalg.eigvalsh(gram).max())


def on_torus(op: Operator, bound: float, sign: int) -> bool:
    """`shown` from the blocks; from below only where the operator is a matrix, or the torus's."""
    exact = op.kernel.shape[3:] == op.extent == (1, 1) or op.is_torus()
    if sign > 0 and not (exact and _rows_suffice(op)):
        return False
    once = bound if op.copies() == 1 else bound / math.sqrt(op.copies()) * (1 + sign * 2.0**-40)
    return all(_shown(stack, error, once, sign) for stack, error in _blocks(op))


def _shown(stack: Array, error: float, bound: float, sign: int) -> bool:
    """`shown` of all matrices within `error` of those in a stack."""
    gram, rounding = _gram(stack)
    side = gram.shape[1]
    if sign > 0 and side < stack.shape[2]:
        return False
    own = (bound + sign * error) * (1 + sign * 2.0**-40)  # what the stack itself must keep to
    square = own * own
    # The shift lies off the square by about twice the error of a factorisation, which is that of
    # the matrix where the square is small beside it.
    room = 2 * gamma(4 * (side + 3)) * side * square + 4 * rounding
    room += 2.0**-38 * square + 2.0**-890
    shift = square + sign * room
    if own <= 0 or shift <= 0 or not math.isfinite(shift):
        return False
    slack = definite(sign * (gram - shift * np.eye(side)))
    if slack is None:
        return False
    reached = (shift * (1 - sign * 4 * U) - sign * (slack + rounding)) * (1 - sign * 2.0**-40)
    return reached >= square if sign > 0 else reached <= square


def _blocks(op: Operator) -> Iterator[tuple[Array, float]]:
    """The diagonal blocks of the circular operator in the Fourier basis, over half of its
    frequencies (the others are conjugate), in stacks (F, m, n) with a bound on their error.

    With stride s, s aliased frequencies stand side by side, divided by s per dimension.
    """
    sides = op.sides()
    s, r = (1 if side % step else step for side, step in zip(sides, op.stride, strict=True))
    groups, m, n, k, l = op.kernel.shape
    frequencies = float(sides[0] // s // 2 + 1) * float(sides[1] // r)
    work = float(groups) * frequencies * m * n * s * r * (min(m, n * s * r) + k * l)
    agree(
        work < LARGEST_WORK and frequencies * s * r < 2**22,
        f"an operator needs {work:.0e} operations, too many to check",
    )
    fits = min(m, n * s * r) <= LARGEST_GRAM and m * n * s * r <= 2**27
    agree(fits, f"a matrix of {m} x {n} is too large to check")
    count = max(1, _CHUNK // max(m * n * s * r, k * l))
    turns = CALL * (1 + frequencies / count) + 100 * frequencies * (k + l)
    spend(2 * work + groups * (10 * CALL + s * r * turns + 3e3 * frequencies))
    if sides == (1, 1) and k == l == 1:
        yield from ((kernel[None, :, :, 0, 0], 0.0) for kernel in op.kernel)
        return
    rows, columns = (v.reshape(-1) for v in np.indices((sides[0] // s // 2 + 1, sides[1] // r)))
    for kernel in op.kernel:
        sums = np.abs(kernel).sum((2, 3))
        error = gamma(4 * k * l + 40) * math.sqrt(float((sums * sums).sum())) * UP
        flat = kernel.transpose(2, 3, 0, 1).reshape(k * l, m * n).astype(np.complex128)
        for start in range(0, rows.size, count):
            f, g = rows[start : start + count], columns[start : start + count]
            parts = [
                (_phases(f + a * (sides[0] // s), sides[0], op.dilation[0], k)[:, :, None]
                 * _phases(g + b * (sides[1] // r), sides[1], op.dilation[1], l)[:, None, :]
                 ).reshape(-1, k * l) @ flat
                for a in range(s) for b in range(r)
            ]  # fmt: skip
            stack = np.concatenate([part.reshape(-1, m, n) for part in parts], 2)
            yield stack / math.sqrt(s * r), error


def _phases(frequencies: Array, side: int, dilation: int, size: int) -> Array:
    """exp(-2 pi i f d t / side) within 10 U: the turn is reduced exactly, to half a turn."""
    turns = frequencies[:, None] * (np.arange(size) * dilation % side) % side
    turns = np.where(2 * turns > side, turns - side, turns)
    return np.exp(turns * (-2j * math.pi / side))


def _gram(stack: Array) -> tuple[Array, float]:
    """The smaller Gram matrices of a stack, and a bound on their error."""
    wide = stack.shape[1] < stack.shape[2]
    turned = stack.conj().transpose(0, 2, 1)
    gram = stack @ turned if wide else turned @ stack
    entries = float((np.abs(stack) ** 2).sum((1, 2)).max())
    return gram, gamma(4 * (max(stack.shape[1:]) + 2)) * entries * UP


def definite(stack: Array) -> float | None:
    """A number e such that no eigenvalue of the Hermitian matrices (..., n, n) whose lower
    triangles are given is below -e; None when the factorisation fails."""
    try:
        factor = np.linalg.cholesky(stack)
    except np.linalg.LinAlgError:
        return None
    n = stack.shape[-1]
    trace = float((np.abs(factor) ** 2).sum((-2, -1)).max())
    if not math.isfinite(trace):
        return None
    entries = float(np.abs(np.diagonal(stack, axis1=-2, axis2=-1)).max())
    return (gamma(4 * (n + 3)) * trace + 2 * U * entries) * 1.01 + 2.0**-900


# Zero padding, tight: a block-banded factorisation next to a stated bound. ------------------------


def on_plane(op: Operator, bound: float, sign: int) -> bool:
    """`shown` of a zero-padded convolution as it is executed."""
    if op.circular or bound <= 0 or (sign > 0 and not _rows_suffice(op)):
        return False
    square = bound * bound
    if square < 2.0**-800:  # where products underflow
        return False
    shift = square * (1 + sign * MARGIN)
    slack = _banded(op, shift, sign)
    reached = (shift * (1 - sign * 4 * U) - sign * slack) * (1 - sign * 2.0**-40)
    return reached >= square if sign > 0 else reached <= square


def _banded(op: Operator, shift: float, sign: int) -> float:
    """|R| for M = sign (A'A - shift I) = LL' + R, so that no eigenvalue of M is below -|R|.

    Row i of the image is coupled to row j only when |i - j| <= d (k - 1). R is computed.
    Raises Wrong where M has no such factor.
    """
    return max(_banded_group(op, kernel, shift, sign) for kernel in op.kernel)


def _row_maps(op: Operator, kernel: Array) -> Array:
    """T_r (k, outputs of a row, inputs of a row): what kernel row r makes of a row of inputs."""
    m, n, k, l = kernel.shape
    width, across = op.extent[1], op.outputs[1]
    maps = np.zeros((k, m, across, n, width))
    for tap in range(l):
        for out in range(across):
            read = op.stride[1] * out - op.padding[1][0] + op.dilation[1] * tap
            if 0 <= read < width:
                maps[:, :, out, :, read] += kernel[:, :, :, tap].transpose(2, 0, 1)
    return maps.reshape(k, m * across, n * width)


def _banded_group(op: Operator, kernel: Array, shift: float, sign: int) -> float:
    """Bound on |R| for one group, with the roundings of A'A and of R itself."""
    height, reach = op.extent[0], op.dilation[0] * (kernel.shape[2] - 1)
    size = kernel.shape[1] * op.extent[1]
    entries = max(kernel.shape[0] * op.outputs[1], kernel.shape[2] * size) * kernel.shape[2] * size
    agree(
        height * size**3 * 20.0 < 2 * LARGEST_WORK and entries <= 2**27 and height <= 2**12,
        "a factorisation is too large to check",
    )
    blocks = float(height) * (min(height, reach) + 2) ** 2
    loops = kernel.shape[2] * op.outputs[0] + kernel.shape[3] * op.outputs[1]
    spend(blocks * (size**3 / 5 + CALL) + CALL * loops)
    maps = _row_maps(op, kernel)
    products = np.einsum("rou,qov->rquv", maps, maps, optimize=True)
    readers: list[dict[int, int]] = [{} for _ in range(height)]
    for out in range(op.outputs[0]):
        for r in range(kernel.shape[2]):
            row = op.stride[0] * out - op.padding[0][0] + op.dilation[0] * r
            if 0 <= row < height:
                readers[row][out] = r
    factor: dict[tuple[int, int], Array] = {}
    residual = np.zeros((height, height))
    top = abs(shift)
    for j in range(height):
        for i in range(j, min(height, j + reach + 1)):
            block = np.zeros((size, size))
            for out in readers[i].keys() & readers[j].keys():
                block += sign * products[readers[i][out], readers[j][out]]
            if i == j:
                block -= sign * shift * np.eye(size)
                top = max(top, float(np.abs(np.diagonal(block)).max()))
            for k in range(max(0, i - reach), j):
                block -= factor[i, k] @ factor[j, k].T
            try:
                lower = (
                    np.linalg.cholesky(block)
                    if i == j
                    else np.linalg.solve(factor[j, j], block.T).T
                )
            except np.linalg.LinAlgError as error:
                raise Wrong("a bound on a singular value is not shown") from error
            factor[i, j] = lower
            left = block - lower @ factor[j, j].T
            sums = np.linalg.norm(left, 1), np.linalg.norm(left, np.inf)  # they cannot underflow
            residual[i, j] = residual[j, i] = float(max(sums))
        row = [factor[j, k] for k in range(max(0, j - reach), j + 1)]
        top = max(top, float(sum((part * part).sum(1) for part in row).max()))  # type: ignore
        for k in [key for key in factor if key[1] <= j - reach]:
            del factor[k]
    agree(math.isfinite(top) and bool(np.isfinite(residual).all()), "a factorisation overflows")
    # An entry of |L||L|' is at most the largest diagonal one; a row has this many entries:
    entries = (2 * reach + 1) * size
    terms = (reach + 2) * size + len(kernel) * op.outputs[1] + kernel.shape[2] + 16
    sums = np.abs(kernel)
    gram = float(sums.sum((1, 2, 3)).max() * sums.sum((0, 2, 3)).max())
    rounding = gamma(terms) * (3 * entries * top + gram) * 1.02 + 2.0**-890
    return (float(residual.sum(1).max()) * (1 + 1e-9) + rounding) * UP
