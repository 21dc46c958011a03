"""Every operator that capture knows, with its options: the graph computes what the module does."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from property_modules import Buffered
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from dsnn.operators import Convolution, LinearOperator
from verification.capture import capture
from verification.graph import KINDS, Graph
from verification.interpret import Interpreter


class Adjoint(nn.Module):
    def __init__(self, operator: LinearOperator):
        super().__init__()
        self.operator = operator

    def forward(self, x: Tensor) -> Tensor:
        return self.operator.adjoint(x)


def agrees(module: nn.Module, shape: tuple[int, ...]) -> Graph:
    """The graph of the module in float64, compared at batches of one and of three."""
    module = module.double().eval()
    torch.manual_seed(1)
    with torch.no_grad():
        for tensor in (*module.parameters(), *module.buffers()):
            if tensor.is_floating_point() and not tensor.any():
                tensor.normal_()
    graph = capture(module, shape)
    assert {node.kind for node in graph} <= set(KINDS) - {"unknown"}
    assert graph.input.shape == shape
    interpreter = Interpreter(graph)
    for batch in (1, 3):
        x = torch.randn((batch, *shape), dtype=torch.float64)
        with torch.no_grad():
            ours, theirs = interpreter(x), module(x.clone())
        assert ours.shape == theirs.shape == (batch, *graph[graph.output].shape)
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    return graph


def f(function: Callable[..., Tensor], *constants: Tensor) -> nn.Module:
    return Buffered(function, *constants)


torch.manual_seed(0)
IMAGE, VECTOR = (4, 6, 5), (6,)
W, V = torch.randn(6, 6), torch.randn(6) + 3
CHANNELS = torch.rand(4, 1, 1) + 1

LINEAR: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "linear": (nn.Linear(6, 3), VECTOR),
    "linear without bias": (nn.Linear(6, 3, bias=False), (2, 5, 6)),
    "addmm": (f(lambda x, w, v: torch.addmm(v, x, w), W, V), VECTOR),
    "matmul right": (f(lambda x, w: x @ w, W), (2, 6)),
    "matmul left": (f(lambda x, w: w @ x, W), (6, 2)),
    "matmul vector": (f(lambda x, v: x @ v, V), (2, 6)),
    "cumsum": (f(lambda x: x.cumsum(1) + x.flip(-1).cumsum(-1)), IMAGE),
    "einsum of a matrix": (f(lambda x, w: torch.einsum("jm,bijk->bkim", w, x), W), IMAGE),
    "einsum in groups": (
        f(lambda x, w: torch.einsum("bgik,gij->bjkg", x, w.reshape(2, 3, 6)), W), (2, 3, 5)),
    "einsum outwards": (f(lambda x, w: torch.einsum("bi,jk->bijk", x, w), W), VECTOR),
    "einsum of entries": (f(lambda x, v: torch.einsum("bi,i->bi", x, v), V), VECTOR),
    "einsum of all": (f(lambda x, w: torch.einsum("bij,ij->b", x, w)[:, None], W), (6, 6)),
    "mv": (f(lambda x, v: torch.mv(x, v)[:, None] * v, V), VECTOR),
    "mm": (f(lambda x, w: torch.mm(x, w.T), W), VECTOR),
    "matmul of linear algebra": (f(lambda x, w: torch.linalg.matmul(x, w).sin(), W), (2, 6)),
    "conv1d": (nn.Conv1d(4, 6, 3, stride=2, padding=1, dilation=2), (4, 11)),
    "conv2d": (nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 0)), IMAGE),
    "conv2d groups": (nn.Conv2d(4, 6, 3, padding=2, dilation=2, groups=2, bias=False), IMAGE),
    "conv2d same": (nn.Conv2d(4, 4, (2, 3), padding="same", dilation=(1, 2)), IMAGE),
    "conv2d valid": (nn.Conv2d(4, 4, 3, padding="valid"), IMAGE),
    "conv2d circular": (nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"), IMAGE),
    "conv1d circular": (nn.Conv1d(4, 4, 3, padding=1, padding_mode="circular"), (4, 7)),
    "conv2d reflect": (nn.Conv2d(4, 4, 3, padding=2, padding_mode="reflect"), IMAGE),
    "conv2d replicate": (nn.Conv2d(4, 4, 3, padding=1, padding_mode="replicate"), IMAGE),
    "padded conv2d": (nn.Sequential(nn.ZeroPad2d((1, 2, 0, 3)), nn.Conv2d(4, 2, 3)), IMAGE),
    "transpose": (nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1), IMAGE),
    "transpose groups": (nn.ConvTranspose2d(4, 6, 3, groups=2, dilation=2, bias=False), IMAGE),
    "transpose beyond": (
        nn.ConvTranspose2d(4, 2, 3, stride=1, padding=2, output_padding=1, dilation=2), IMAGE),
    "transpose 1d": (nn.ConvTranspose1d(4, 2, 4, stride=3, padding=1, output_padding=2), (4, 5)),
    "adjoint circular": (Adjoint(Convolution(3, 4, 3, circular=True)), IMAGE),
    "adjoint circular strided": (Adjoint(Convolution(3, 4, 5, stride=2, circular=True)), IMAGE),
    "adjoint circular grouped": (Adjoint(Convolution(2, 4, groups=2, circular=True)), IMAGE),
    "batch norm": (nn.BatchNorm2d(4), IMAGE),
    "batch norm plain": (nn.BatchNorm1d(6, affine=False), VECTOR),
    "layer norm": (nn.LayerNorm([6, 5]), IMAGE),
    "group norm": (nn.GroupNorm(2, 4), IMAGE),
    "instance norm": (nn.InstanceNorm2d(4, affine=True), IMAGE),
    "instance norm tracked": (nn.InstanceNorm2d(4, track_running_stats=True), IMAGE),
    "spectral norm": (parametrizations.spectral_norm(nn.Conv2d(4, 4, 3)), IMAGE),
    "old spectral norm": (nn.utils.spectral_norm(nn.Linear(6, 6)), VECTOR),
    "orthogonal": (parametrizations.orthogonal(nn.Linear(6, 4)), VECTOR),
    "weight norm": (parametrizations.weight_norm(nn.Linear(6, 4)), VECTOR),
    "spectral norm of weight norm": (
        parametrizations.spectral_norm(parametrizations.weight_norm(nn.Linear(6, 4))), VECTOR),
}  # fmt: skip

POOLING: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "max": (nn.MaxPool2d(2), IMAGE),
    "max overlapping": (nn.MaxPool2d(3, 2, 1, ceil_mode=True), IMAGE),
    "max 1d": (nn.MaxPool1d(3, 1), (4, 7)),
    "average": (nn.AvgPool2d(2), IMAGE),
    "average overlapping": (nn.AvgPool2d(3, 2, 1), IMAGE),
    "average without pads": (nn.AvgPool2d(3, 2, 1, count_include_pad=False), IMAGE),
    "average ceil": (nn.AvgPool2d(3, 2, 1, ceil_mode=True), (2, 6, 8)),
    "average ceil without pads": (
        nn.AvgPool2d(2, 2, 1, ceil_mode=True, count_include_pad=False), (2, 6, 5)),
    "average divisor": (nn.AvgPool2d((2, 3), divisor_override=5), IMAGE),
    "average 1d": (nn.AvgPool1d(3, 2, 1), (4, 7)),
    "adaptive average": (nn.AdaptiveAvgPool2d((4, 7)), IMAGE),
    "adaptive average to one": (nn.AdaptiveAvgPool2d(1), IMAGE),
    "adaptive max": (nn.AdaptiveMaxPool2d((4, 2)), IMAGE),
    "adaptive 1d": (nn.AdaptiveAvgPool1d(4), (2, 6)),
    "max without channels": (nn.MaxPool1d(3, 2, 1), VECTOR),
    "average without channels": (nn.AvgPool2d(2), (4, 6)),
    "adaptive without channels": (nn.AdaptiveAvgPool1d(4), VECTOR),
    "adaptive max without channels": (nn.AdaptiveMaxPool2d((2, 3)), (4, 6)),
    "mean": (f(lambda x: x.mean((2, 3))), IMAGE),
    "mean kept": (f(lambda x: x - x.mean(1, keepdim=True)), IMAGE),
    "sum": (f(lambda x: x.sum(-1)), IMAGE),
    "sum of all": (f(lambda x: x.sum((1, 2, 3), keepdim=True)), IMAGE),
    "amax": (f(lambda x: x.amax((1, 2))), IMAGE),
    "amin": (f(lambda x: x.amin(1, keepdim=True)), IMAGE),
    "max of a dimension": (f(lambda x: x.max(dim=2).values), IMAGE),
    "min of a dimension": (f(lambda x: x.min(dim=2)[0]), IMAGE),
    "max less min of two": (f(lambda x: x[:, :2].max(1)[0] - x[:, :2].amin([1])), IMAGE),
    "sort": (f(lambda x: x.sort(2).values + torch.sort(x, -2)[0]), IMAGE),
    "sort downwards": (f(lambda x: torch.sort(x, dim=1, descending=True, stable=True)[0]), IMAGE),
    "the largest": (f(lambda x: x.topk(2, 1)[0] + x.topk(2, -3, sorted=True).values), IMAGE),
    "the smallest": (f(lambda x: torch.topk(x, 3, dim=2, largest=False)[0]), IMAGE),
    "a rank": (f(lambda x: x.kthvalue(2, 1)[0] - x.kthvalue(3, 1, keepdim=True)[0][:, 0]), IMAGE),
    "median": (f(lambda x: x.median(2).values + x.median(2, keepdim=True)[0][:, :, 0]), IMAGE),
    "sort next to the batch": (
        f(lambda x: x.flatten(0, 1).sort(1)[0].unflatten(0, (-1, 4))), IMAGE),
}  # fmt: skip


def embedded(x: Tensor, w: Tensor) -> Tensor:
    y = torch.zeros(x.shape[0], 12, dtype=x.dtype)
    y[:, 1::2] = x
    return y


def border_added(x: Tensor, w: Tensor) -> Tensor:
    y = x.clone()
    y.narrow(1, 0, 2).add_(x.narrow(1, 4, 2))
    return y


MOVEMENT: dict[str, tuple[Callable[..., Tensor], tuple[int, ...]]] = {
    "view": (lambda x, w: x.view(x.size(0), -1), IMAGE),
    "reshape": (lambda x, w: x.reshape(-1, 6, 20), IMAGE),
    "flatten": (lambda x, w: x.flatten(2), IMAGE),
    "unflatten": (lambda x, w: x.unflatten(1, (2, 2)), IMAGE),
    "permute": (lambda x, w: x.permute(0, 3, 1, 2), IMAGE),
    "transpose": (lambda x, w: x.transpose(1, 2).mT, IMAGE),
    "movedim": (lambda x, w: x.movedim(1, -1), IMAGE),
    "merged with the batch": (lambda x, w: x.flatten(0, 1).flip(2).unflatten(0, (-1, 4)), IMAGE),
    "unsqueeze": (lambda x, w: x[:, None].squeeze(1).unsqueeze(-1), IMAGE),
    "slices": (lambda x, w: x[:, ::2, 1:-1], IMAGE),
    "select": (lambda x, w: x[:, 1], IMAGE),
    "narrow": (lambda x, w: x.narrow(2, 1, 3), IMAGE),
    "chunk": (lambda x, w: x.chunk(2, 1)[1], IMAGE),
    "split": (lambda x, w: torch.cat(x.split([1, 3], 1)[::-1], 1), IMAGE),
    "unbind": (lambda x, w: x.unbind(1)[0] - 2 * x.unbind(1)[3], IMAGE),
    "expand": (lambda x, w: x[:, :1].expand(-1, 3, -1, -1), IMAGE),
    "repeat": (lambda x, w: x.repeat(1, 2, 1, 3), IMAGE),
    "repeat_interleave": (lambda x, w: x.repeat_interleave(2, 1), IMAGE),
    "tile": (lambda x, w: x.tile(2, 1, 2), IMAGE),
    "roll": (lambda x, w: x.roll((1, -2), (2, 3)), IMAGE),
    "flip": (lambda x, w: x.flip(-1), IMAGE),
    "rot90": (lambda x, w: x.rot90(1, (2, 3)), IMAGE),
    "pixel_shuffle": (lambda x, w: F.pixel_shuffle(x, 2), IMAGE),
    "pixel_unshuffle": (lambda x, w: F.pixel_unshuffle(x, 2), (2, 4, 6)),
    "channel_shuffle": (lambda x, w: F.channel_shuffle(x, 2), IMAGE),
    "unfold": (lambda x, w: x.unfold(2, 3, 2), IMAGE),
    "patches": (lambda x, w: F.unfold(x, 2), IMAGE),
    "cat": (lambda x, w: torch.cat([x, 2 * x, x], 2), IMAGE),
    "cat with constants": (lambda x, w: torch.cat([x, w.expand(len(x), 6, 6)], 1), (2, 6)),
    "stack": (lambda x, w: torch.stack([x, -x], 2), IMAGE),
    "index": (lambda x, w: x[:, [2, 0, 0]], IMAGE),
    "index_select": (lambda x, w: x.index_select(2, torch.tensor([5, 1])), IMAGE),
    "take a diagonal": (lambda x, w: x.diagonal(dim1=1, dim2=2), IMAGE),
    "tril": (lambda x, w: x.tril(), IMAGE),
    "zero pads": (lambda x, w: F.pad(x, (1, 2, 0, 3)), IMAGE),
    "cropping pads": (lambda x, w: F.pad(x, (-1, 2)), IMAGE),
    "pads of three": (lambda x, w: F.pad(x, (1, 2), value=3.0), IMAGE),
    "circular pads": (lambda x, w: F.pad(x, (2, 1, 3, 0), mode="circular"), IMAGE),
    "reflected pads": (lambda x, w: F.pad(x, (2, 1), mode="reflect"), (4, 6)),
    "upsampling": (lambda x, w: F.interpolate(x, scale_factor=2), IMAGE),
    "exact upsampling": (
        lambda x, w: F.interpolate(x, scale_factor=2, mode="nearest-exact"),
        (2, 3, 4),
    ),
    "upsampling of volumes": (lambda x, w: F.interpolate(x[:, None], scale_factor=2), (2, 3, 4)),
    "written into zeros": (embedded, VECTOR),
    "a border added in place": (border_added, VECTOR),
    "aliases": (lambda x, w: F.dropout(x.contiguous().clone().detach(), 0.5, False) * 1.5, VECTOR),
}

ELEMENTWISE: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "add": (f(lambda x, v: torch.add(x, v, alpha=3) + 2, V), VECTOR),
    "add along channels": (f(lambda x, c: c + x, CHANNELS), IMAGE),
    "sub": (f(lambda x, v: 1 - (v - x), V), VECTOR),
    "a sum of sums": (f(lambda x, v: (x + 2 * (x - v / 3)) / 7 - x, V), VECTOR),
    "mul": (f(lambda x, c: -x * c * 3, CHANNELS), IMAGE),
    "mul by an entry": (f(lambda x, v: x * (v[1] / 3) * v[0].abs(), V), VECTOR),
    "mul by a sum": (f(lambda x, v: x * v.sum().item(), V), VECTOR),
    "div": (f(lambda x, c: x / c / 3, CHANNELS), IMAGE),
    "div by data": (f(lambda x, v: v / (x * x + 1), V), VECTOR),
    "broadcast data": (f(lambda x: x[:, :1] + x * x.mean((2, 3), keepdim=True)), IMAGE),
    "broadcast data to constants": (f(lambda x, w: x[:, None] + w, W), VECTOR),
    "masked": (
        f(lambda x, v: x.masked_fill(v > 3, 0.0) + x.masked_fill(v < 3, 2.5).sin(), V),
        VECTOR,
    ),
    "chosen": (
        f(
            lambda x, v: (
                torch.where(v > 3, x, 2 * x) + torch.where(v > 3, v, x) + torch.where(v < 3, x, 0.5)
            ),
            V,
        ),
        VECTOR,
    ),
    "addcmul": (f(lambda x, v: torch.addcmul(x, x, v, value=2), V), VECTOR),
    "powers": (f(lambda x: x**2 + x**3 + x.square()), VECTOR),
    "maximum": (f(lambda x, v: torch.maximum(x, v) + torch.minimum(x, -x), V), VECTOR),
    "max of two tensors": (f(lambda x, v: torch.max(x, v) + torch.min(v, x.flip(1)), V), VECTOR),
    "without gradients": (f(lambda x: no_gradient(x) + x), VECTOR),
    "ones like": (f(lambda x: x + torch.ones_like(x)), VECTOR),
    "constants of its shape": (
        f(lambda x, v: torch.sin(x) * v.expand_as(x) + v.type_as(x) * v.to(x), V[None]),
        VECTOR,
    ),
    "relu": (nn.ReLU(inplace=True), VECTOR),
    "leaky_relu": (nn.LeakyReLU(0.3), VECTOR),
    "prelu": (nn.PReLU(4), IMAGE),
    "prelu of one": (nn.PReLU(), IMAGE),
    "rrelu": (nn.RReLU(), VECTOR),
    "relu6": (nn.ReLU6(), VECTOR),
    "hardtanh": (nn.Hardtanh(-0.5, 2), VECTOR),
    "clamp": (f(lambda x: x.clamp(max=0.5) + x.clamp(-1, 1) + x.clamp_min(0.1)), VECTOR),
    "threshold": (nn.Threshold(0.5, 0.5), VECTOR),
    "elu": (nn.ELU(0.7), VECTOR),
    "celu": (nn.CELU(0.7), VECTOR),
    "selu": (nn.SELU(), VECTOR),
    "selu in place": (nn.SELU(inplace=True), VECTOR),
    "gelu": (nn.GELU(), VECTOR),
    "gelu tanh": (nn.GELU("tanh"), VECTOR),
    "silu": (nn.SiLU(), VECTOR),
    "mish": (nn.Mish(), VECTOR),
    "softplus": (nn.Softplus(2.0, 40.0), VECTOR),
    "softsign": (nn.Softsign(), VECTOR),
    "tanh": (nn.Tanh(), VECTOR),
    "tanhshrink": (nn.Tanhshrink(), VECTOR),
    "sigmoid": (nn.Sigmoid(), VECTOR),
    "logsigmoid": (nn.LogSigmoid(), VECTOR),
    "hardsigmoid": (nn.Hardsigmoid(), VECTOR),
    "hardswish": (nn.Hardswish(), VECTOR),
    "softshrink": (nn.Softshrink(0.3), VECTOR),
    "abs sin cos": (f(lambda x: x.abs() + x.sin() * x.cos() + x.atan() + x.erf()), VECTOR),
    "softmax": (nn.Softmax(1), IMAGE),
    "log_softmax": (nn.LogSoftmax(-1), IMAGE),
    "logsumexp": (f(lambda x: x.logsumexp((1, -1))), IMAGE),
    "logsumexp kept": (f(lambda x: x - x.logsumexp(1, keepdim=True)), VECTOR),
    "norm": (f(lambda x: x.norm(dim=1)), IMAGE),
    "norm of linear algebra": (f(lambda x: torch.linalg.norm(x, dim=1).sin()), IMAGE),
    "norm of a matrix": (f(lambda x: torch.linalg.norm(x, dim=(1, 2), keepdim=True).sin()), IMAGE),
    "other names": (
        f(
            lambda x, v: (
                torch.arctan(torch.multiply(torch.negative(x), v)).subtract(v, alpha=2)
                + torch.true_divide(x.absolute(), v)
                + torch.divide(torch.special.expit(x), v)
            ),
            V,
        ),
        VECTOR,
    ),
    "normalize": (f(lambda x: F.normalize(x, dim=1)), IMAGE),
    "matmul of data": (f(lambda x: x @ x.mT), IMAGE),
}


def no_gradient(x: Tensor) -> Tensor:
    with torch.no_grad():
        return 2 * x


@pytest.mark.parametrize("name", LINEAR)
def test_linear(name: str):
    agrees(*LINEAR[name])


@pytest.mark.parametrize("name", POOLING)
def test_pooling(name: str):
    agrees(*POOLING[name])


@pytest.mark.parametrize("name", MOVEMENT)
def test_movement(name: str):
    function, shape = MOVEMENT[name]
    agrees(Buffered(function, W), shape)


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_elementwise(name: str):
    agrees(*ELEMENTWISE[name])


@pytest.mark.parametrize("name", [name for name in LINEAR if "circular" in name])
def test_circular_convolutions_and_their_adjoints_are_one_node(name: str):
    graph = agrees(*LINEAR[name])
    (node,) = graph.nodes[1:]
    assert node.kind == ("adjoint" if "adjoint" in name else "conv")
    assert node.attributes["circular"]


def test_a_border_added_elsewhere_is_no_circular_adjoint():
    def fold(x: Tensor, weight: Tensor) -> Tensor:
        y = F.conv_transpose2d(x, weight)
        core = y.narrow(2, 1, 6).clone()
        core.narrow(2, 4, 1).add_(y.narrow(2, 0, 1))
        core.narrow(2, 0, 1).add_(y.narrow(2, 7, 1))
        return core

    graph = agrees(Buffered(fold, torch.randn(4, 2, 3, 1)), IMAGE)
    assert not any(node.attributes.get("circular") for node in graph)
