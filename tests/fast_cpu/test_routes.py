"""The fast ways compute what the plain ones compute, backward passes too, and keep no more than they need."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hybridbooth_core.fast_cpu import FastProducts, products, routes
from hybridbooth_core.models.checkpointing import checkpointed

WAYS = [False, True] if hasattr(torch.ops.mkldnn, "_linear_pointwise") else [False]


@pytest.fixture(params=WAYS, ids=["torch", "onednn"][: len(WAYS)])
def way(request, monkeypatch):
    """Both libraries' products, whatever this machine would choose."""
    monkeypatch.setattr(products, "onednn_is_faster", lambda: request.param)
    monkeypatch.setattr(routes, "onednn_is_faster", lambda: True)  # tiled attention is right with either
    return request.param


def taken(call, *inputs: Tensor) -> tuple[str, Tensor, tuple[Tensor, ...]]:
    """The name of the way a call took, its result and the gradients of a fixed weighting of it."""
    with FastProducts():
        out = call(*inputs)
    found = torch.autograd.grad((out * weighting(out)).sum(), [x for x in inputs if x.requires_grad])
    node = out.grad_fn
    while node is not None and not node.name().endswith("Backward"):  # views of the result come first
        node = node.next_functions[0][0]
    return node.name() if node else "", out.detach(), found


def weighting(out: Tensor) -> Tensor:
    return torch.linspace(-1, 1, out.numel(), dtype=torch.float64).view(out.shape).to(out)


def exact(call, *inputs: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The same in float64 by PyTorch's plain operators."""
    doubled = [x.detach().double().requires_grad_(x.requires_grad) for x in inputs]
    out = call(*doubled)
    return out.detach().float(), tuple(
        g.float() for g in torch.autograd.grad((out * weighting(out)).sum(), [x for x in doubled if x.requires_grad])
    )


def agree(name: str, call, *inputs: Tensor) -> None:
    way, out, found = taken(call, *inputs)
    wanted, gradients = exact(call, *inputs)
    assert way == f"{name}Backward"
    for mine, true in zip((out, *found), (wanted, *gradients), strict=True):
        assert mine.shape == true.shape
        assert (mine - true).norm() < 1e-5 * true.norm()


def tensor(*shape: int, moves: bool = False) -> Tensor:
    return torch.randn(*shape).requires_grad_(moves)


@pytest.mark.parametrize("trained", [False, True], ids=["frozen", "trained"])
@pytest.mark.parametrize("rows", [(7,), (2, 5)], ids=str)
def test_linear(way, rows, trained):
    agree("Linear", F.linear, tensor(*rows, 320, moves=True), tensor(256, 320, moves=trained), tensor(256, moves=trained))
    agree("Linear", F.linear, tensor(*rows, 320, moves=True), tensor(640, 320))


@pytest.mark.parametrize("trained", [False, True], ids=["frozen", "trained"])
@pytest.mark.parametrize(
    ("name", "size", "side", "stride", "padding"),
    [("GatheredConvolution", (6, 5), 3, 1, 1), ("GatheredConvolution", (8, 8), 3, 2, 1), ("GatheredConvolution", (32, 32), 3, 2, 1),
     ("GatheredConvolution", (8, 8), 2, 2, 0), ("Convolution", (20, 18), 3, 1, 1), ("Convolution", (36, 36), 3, 2, 1)],
)  # fmt: skip
def test_convolutions(way, name, size, side, stride, padding, trained):
    weight, bias = tensor(256, 256, side, side, moves=trained), tensor(256, moves=trained)
    pictures = tensor(2, 256, *size, moves=True)
    agree(name, lambda *inputs: F.conv2d(*inputs, stride, padding), pictures, weight, bias)


def test_a_pointwise_convolution_is_a_linear_layer(way):
    agree("Linear", F.conv2d, tensor(2, 256, 6, 5, moves=True), tensor(320, 256, 1, 1), tensor(320))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_any_layout_is_taken(way, layout):
    weight = tensor(256, 256, 3, 3).to(memory_format=layout)
    pictures = tensor(2, 256, 6, 6).to(memory_format=layout).requires_grad_(True)
    agree("GatheredConvolution", lambda x, w: F.conv2d(x, w, padding=1), pictures, weight)


@pytest.mark.parametrize("keys", [1024, 1100])
def test_attention_over_many_cells(way, keys):
    q, k, v = (tensor(2, n, 2 * 8).view(2, n, 2, 8).transpose(1, 2).requires_grad_(True) for n in (1030, keys, keys))
    agree("TiledAttention", F.scaled_dot_product_attention, q, k, v)
    agree("TiledAttention", lambda *inputs: F.scaled_dot_product_attention(*inputs, scale=0.7), q, k, v)


class Another(Tensor):
    """A kind of tensor that is not known here."""


@pytest.mark.parametrize(
    "call",
    [lambda: F.linear(tensor(4, 96, moves=True), tensor(512, 96)),
     lambda: F.linear(tensor(4, 320, moves=True).double(), tensor(320, 320).double()),
     lambda: F.linear(tensor(4, 320, moves=True).bfloat16(), tensor(320, 320).bfloat16()),
     lambda: F.linear(tensor(4, 320, moves=True), tensor(320, 320).as_subclass(Another)),
     lambda: F.conv2d(tensor(1, 256, 6, 6, moves=True), tensor(256, 1, 3, 3), groups=256),
     lambda: F.conv2d(tensor(1, 256, 6, 6, moves=True), tensor(256, 256, 3, 3), padding="same"),
     lambda: F.conv2d(tensor(1, 256, 6, 6, moves=True), tensor(256, 256, 3, 3), dilation=2),
     lambda: F.conv2d(tensor(1, 256, 6, 6, moves=True), tensor(256, 256, 3, 1)),
     lambda: F.scaled_dot_product_attention(tensor(1, 1, 1024, 8, moves=True), *[tensor(1, 1, 77, 8)] * 2),
     lambda: F.scaled_dot_product_attention(*[tensor(1, 1, 1024, 8, moves=True)] * 3, is_causal=True),
     lambda: F.scaled_dot_product_attention(*[tensor(1, 1, 1024, 8, moves=True)] * 3, attn_mask=torch.zeros(1024, 1024))],
)  # fmt: skip
def test_everything_else_is_computed_as_ever(way, call):
    torch.manual_seed(5)
    expected = call()
    torch.manual_seed(5)
    with FastProducts():
        found = call()
    assert torch.equal(found, expected)
    assert found.grad_fn.name() == expected.grad_fn.name()


def test_a_frozen_layer_keeps_no_input_and_a_trained_one_does():
    def kept(trained: bool) -> int:
        net = nn.Sequential(nn.Conv2d(256, 256, 3, padding=1), nn.Conv2d(256, 256, 3, padding=1), nn.Conv2d(256, 256, 1))
        net.requires_grad_(trained)
        own = {parameter.data_ptr() for parameter in net.parameters()}
        sizes = []

        def pack(x: Tensor) -> Tensor:
            if x.data_ptr() not in own:
                sizes.append(x.numel())
            return x

        with FastProducts(), torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            net(tensor(1, 256, 20, 20, moves=True))
        return sum(sizes)

    assert kept(trained=False) == 0
    assert kept(trained=True) == 3 * 256 * 20 * 20


def test_outside_of_it_nothing_is_different():
    with FastProducts():
        pass
    assert F.linear(tensor(4, 320, moves=True), tensor(320, 320)).grad_fn.name() != "LinearBackward"


def test_a_second_derivative_is_refused_rather_than_wrong():
    x = tensor(4, 320, moves=True)
    with FastProducts():
        out = F.linear(x, tensor(320, 320)).square().sum()
    (gradient,) = torch.autograd.grad(out, x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_checkpointed_blocks_take_the_same_ways_twice(way):
    """The way back comes after everything is closed; with other ways there it would find other tensors than were kept."""
    block = nn.Sequential(nn.Linear(320, 320), nn.GELU(), nn.Linear(320, 320)).requires_grad_(False)
    x = tensor(6, 320, moves=True)
    (plain,) = torch.autograd.grad(block(x).square().sum(), x)
    with checkpointed([block]), FastProducts():
        out = block(x).square().sum()
    (found,) = torch.autograd.grad(out, x)
    torch.testing.assert_close(found, plain, rtol=1e-4, atol=1e-5)


def test_autocast_is_left_to_torch(way):
    x, weight = tensor(4, 320, moves=True), tensor(320, 320)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        expected = F.linear(x, weight)
        with FastProducts():
            found = F.linear(x, weight)
    assert found.dtype == torch.bfloat16 and torch.equal(found, expected)
