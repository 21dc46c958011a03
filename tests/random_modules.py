"""Random architectures: what Hypothesis draws is structure and a seed, what it gets a module."""

from typing import Any

import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from torch import Tensor, nn

Layer = tuple[Any, ...]
ACTIVATIONS = {
    "relu": nn.ReLU,
    "leaky": lambda: nn.LeakyReLU(0.3),
    "steep": lambda: nn.LeakyReLU(-1.5),
    "tanh": nn.Tanh,
    "gelu": nn.GELU,
    "elu": lambda: nn.ELU(2.0),
    "sigmoid": nn.Sigmoid,
    "hardtanh": nn.Hardtanh,
}


class Step(nn.Module):
    """x + h Aᵀσ(Ax + b), or with `near` an outer matrix that is nearly that transpose."""

    def __init__(self, inner: nn.Module, h: float, activation: nn.Module, near: bool):
        super().__init__()
        self.inner, self.h, self.activation, self.near = inner, h, activation, near

    def forward(self, x: Tensor) -> Tensor:
        z = self.activation(self.inner(x))
        weight = self.inner.weight
        assert isinstance(weight, Tensor)
        weight = weight * 1.25 if self.near else weight
        if isinstance(self.inner, nn.Conv2d):
            return x + self.h * F.conv_transpose2d(z, weight, None, 1, self.inner.padding)  # type: ignore[arg-type]
        return x + self.h * F.linear(z, weight.T)


class Push(nn.Module):
    """scale (x + h f(x))."""

    def __init__(self, f: nn.Module, h: float, scale: float):
        super().__init__()
        self.f, self.h, self.scale = f, h, scale

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * (x + self.h * self.f(x))


class Branches(nn.Module):
    """f and g of x put together: concatenated, the larger, sorted pairs, or shared halves."""

    def __init__(self, f: nn.Module, g: nn.Module, how: str):
        super().__init__()
        self.f, self.g, self.how = f, g, how

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.f(x), self.g(x)
        if self.how == "concat":
            return torch.cat([a, b], 1)
        if self.how == "maximum":
            return torch.maximum(a, b)
        if self.how == "difference":
            return a - 2 * b
        return torch.cat([torch.maximum(a, b), torch.minimum(a, b)], 1)


class Halves(nn.Module):
    """(p, q) -> (p + f(q), q), then the two sorted entry by entry."""

    def __init__(self, f: nn.Module):
        super().__init__()
        self.f = f

    def forward(self, x: Tensor) -> Tensor:
        p, q = x.chunk(2, 1)
        p = p + self.f(q)
        return torch.cat([torch.maximum(p, q), torch.minimum(p, q)], 1)


class Sorted(nn.Module):
    """The entries, or channels, sorted in groups, downwards when `reverse`; pairs by their larger
    and smaller [Anil et al. 2019]."""

    def __init__(self, group: int, reverse: bool = False):
        super().__init__()
        self.group, self.reverse = group, reverse

    def forward(self, x: Tensor) -> Tensor:
        y = x.unflatten(1, (-1, self.group))
        if self.group == 2:
            ends = [y.amin(2), y.amax(2)]
            return torch.stack(ends[::-1] if self.reverse else ends, 2).flatten(1, 2)
        return y.sort(2, descending=self.reverse).values.flatten(1, 2)


class PartialSums(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.cumsum(1)


class CReLU(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, -x], 1).relu()


def activations() -> st.SearchStrategy[Layer]:
    return st.tuples(st.just("activation"), st.sampled_from(sorted(ACTIVATIONS)))


_h = st.sampled_from([-1.5, -0.25, 0.5, 1.0, 3.0])
_names = st.sampled_from(sorted(ACTIVATIONS))
VECTORS = st.one_of(
    activations(),
    st.tuples(st.just("linear"), st.integers(1, 8)),
    st.tuples(st.just("step"), st.integers(1, 8), _h, _names, st.booleans()),
    st.tuples(st.just("push"), _h, _names, st.sampled_from([1.0, 0.5, -2.0])),
    st.tuples(st.just("branches"), st.sampled_from(["concat", "maximum", "difference", "sorted"])),
    st.tuples(st.just("halves"), _names),
    st.tuples(st.just("groups"), st.integers(1, 6), st.booleans()),
    st.tuples(
        st.sampled_from(["layernorm", "softmax", "logsoftmax", "partialsums", "crelu", "prelu"])
    ),
)
IMAGES = st.one_of(
    activations(),
    st.tuples(
        st.sampled_from(["conv", "transposed"]),
        st.sampled_from([2, 4]),
        st.integers(1, 3),
        st.integers(1, 2),
        st.integers(0, 1),
        st.integers(1, 2),
        st.booleans(),
        st.sampled_from(["zeros", "circular"]),
    ),
    st.tuples(st.just("step"), st.sampled_from([2, 4]), _h, _names, st.booleans()),
    st.tuples(st.just("avgpool"), st.integers(2, 3), st.integers(1, 3), st.booleans()),
    st.tuples(st.just("maxpool"), st.integers(2, 3), st.integers(1, 3)),
    st.tuples(st.just("adaptive"), st.integers(1, 7)),
    st.tuples(st.just("groups"), st.integers(1, 4), st.booleans()),
    st.tuples(st.sampled_from(["batchnorm", "groupnorm", "upsample", "prelu"])),
    st.tuples(st.just("branches"), st.sampled_from(["concat", "maximum", "difference", "sorted"])),
)
vectors = st.tuples(st.just((6,)), st.lists(VECTORS, min_size=1, max_size=5), st.integers(0, 2**31))
images = st.tuples(
    st.just((2, 6, 5)), st.lists(IMAGES, min_size=1, max_size=4), st.integers(0, 2**31)
)


def build(shape: tuple[int, ...], layers: list[Layer], seed: int) -> nn.Module:
    """The module; layers that do not fit the shape so far are left out."""
    torch.manual_seed(seed)
    module = nn.Sequential()
    for layer in layers:
        made = (_vector if len(shape) == 1 else _image)(shape, *layer)
        if made is None:
            continue
        made = made.eval()
        with torch.no_grad():
            try:
                after = tuple(made(torch.zeros(2, *shape)).shape[1:])
            except (RuntimeError, ValueError):
                continue
        if 0 in after:
            continue
        shape = after
        module.append(made)
    if not len(module):
        module.append(nn.Identity())
    return module.eval()


def _linear(n: int, m: int) -> nn.Linear:
    layer = nn.Linear(n, m)
    nn.init.normal_(layer.weight, std=n**-0.5)
    return layer


def _vector(shape: tuple[int, ...], kind: str, *about: Any) -> nn.Module | None:
    (n,) = shape
    if kind == "activation":
        return ACTIVATIONS[about[0]]()
    if kind == "groups":
        return Sorted(*about)
    if kind == "linear":
        return _linear(n, about[0])
    if kind == "step":
        m, h, name, near = about
        return Step(_linear(n, m), h, ACTIVATIONS[name](), near)
    if kind == "push":
        h, name, scale = about
        return Push(nn.Sequential(_linear(n, n), ACTIVATIONS[name]()), h, scale)
    if kind == "branches":
        return Branches(_linear(n, 4), nn.Sequential(_linear(n, 4), nn.ReLU()), about[0])
    if kind == "halves":
        if n % 2:
            return None
        return Halves(nn.Sequential(_linear(n // 2, n // 2), ACTIVATIONS[about[0]]()))
    if kind == "prelu":
        layer = nn.PReLU(n)
        nn.init.normal_(layer.weight)
        return layer
    made = {"layernorm": lambda: nn.LayerNorm(n, eps=0.1), "softmax": lambda: nn.Softmax(1)}
    made |= {"logsoftmax": lambda: nn.LogSoftmax(1), "partialsums": PartialSums, "crelu": CReLU}
    return made[kind]()


def _image(shape: tuple[int, ...], kind: str, *about: Any) -> nn.Module | None:
    n = shape[0]
    if kind == "activation":
        return ACTIVATIONS[about[0]]()
    if kind == "groups":
        return Sorted(*about)
    if kind in ("conv", "transposed"):
        m, size, stride, padding, dilation, grouped, mode = about
        groups = 2 if grouped and n % 2 == 0 else 1
        if kind == "conv":
            return nn.Conv2d(n, m, size, stride, padding, dilation, groups, padding_mode=mode)
        return nn.ConvTranspose2d(n, m, size, stride, padding, 0, groups, dilation=dilation)
    if kind == "step":
        m, h, name, near = about
        return Step(nn.Conv2d(n, m, 3, padding=1), h, ACTIVATIONS[name](), near)
    if kind == "avgpool":
        return nn.AvgPool2d(about[0], about[1], 1, count_include_pad=about[2])
    if kind == "maxpool":
        return nn.MaxPool2d(about[0], about[1], 1)
    if kind == "adaptive":
        return nn.AdaptiveAvgPool2d((about[0], 3))
    if kind == "batchnorm":
        layer = nn.BatchNorm2d(n)
        assert layer.running_var is not None
        nn.init.normal_(layer.weight)
        nn.init.uniform_(layer.running_var, 0.1, 2.0)
        return layer
    if kind == "groupnorm":
        return nn.GroupNorm(1, n, eps=0.1)
    if kind == "upsample":
        return nn.Upsample(scale_factor=2)
    if kind == "prelu":
        return nn.PReLU(n, init=-0.5)
    return Branches(nn.Conv2d(n, 2, 3), nn.Conv2d(n, 2, 3), about[0])
