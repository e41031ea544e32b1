"""The residual W' = W + lambda D: zero at the start, invariant in lambda, and removed on exit."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hybridbooth_core.refine.residual import residual_optimizer, residuals_on


def small_net(dtype=torch.float64) -> nn.Sequential:
    torch.manual_seed(5)
    return nn.Sequential(nn.Linear(12, 16), nn.Tanh(), nn.Linear(16, 8, bias=False)).to(dtype)


def linears(net: nn.Module) -> list[nn.Linear]:
    return [module for module in net.modules() if isinstance(module, nn.Linear)]


def moved_weights(scale: float, step_size: float, decay: float, gradient: float = 1.0, steps: int = 5) -> list[torch.Tensor]:
    """lambda D of every layer after a few steps on a fixed task whose gradients are about `gradient` times normal."""
    net = small_net(torch.float32).requires_grad_(False)
    x, y = torch.randn(32, 12, generator=torch.Generator().manual_seed(1)), torch.ones(32, 8)
    with residuals_on(linears(net), scale) as residuals:
        optimizer = residual_optimizer(residuals, step_size, decay)
        for _ in range(steps):
            optimizer.zero_grad()
            (gradient * (net(x) - y).square().mean()).backward()
            optimizer.step()
        return [scale * residual.delta.detach().clone() for residual in residuals]


def test_at_the_start_outputs_are_bit_equal():
    for dtype in (torch.float32, torch.float16):
        net, x = small_net(dtype), torch.randn(4, 12).to(dtype)
        before = net(x)
        with residuals_on(linears(net), 0.01):
            assert torch.equal(net(x), before)


def test_the_output_is_that_of_the_changed_weights():
    net, x = small_net(), torch.randn(4, 12).double()
    moved = small_net()
    with residuals_on(linears(net), 0.3) as residuals:
        for residual, layer in zip(residuals, linears(moved), strict=True):
            nn.init.normal_(residual.delta)
            layer.weight.data += 0.3 * residual.delta.detach().double()
        torch.testing.assert_close(net(x), moved(x), atol=1e-6, rtol=1e-6)


def test_a_residual_too_small_for_half_precision_weights_still_acts():
    layer = nn.Linear(256, 1, bias=False).half()
    layer.weight.data = torch.tensor([[0.05, -0.05] * 128]).half()  # cancels, so that the output itself can be small
    x = torch.ones(1, 256).half()
    before = layer(x)
    with residuals_on([layer], 1.0) as (residual,):
        assert residual.delta.dtype == torch.float32
        nn.init.constant_(residual.delta, 1e-4 / 8)  # a third of the spacing of float16 at 0.05
        assert bool(((layer.weight + residual.delta.half()) == layer.weight).all())
        assert before.item() == 0 and layer(x).item() == pytest.approx(256 * 1e-4 / 8, rel=1e-3)


@pytest.mark.parametrize("gradient", [1.0, 1e-7])
@pytest.mark.parametrize("scale", [1e-2, 0.3, 10.0])
def test_steps_do_not_depend_on_lambda(scale, gradient):
    """Also with gradients as small as Adam's epsilon, and with weight decay."""
    one = moved_weights(1.0, 0.02, 0.5, gradient)
    for found, expected in zip(moved_weights(scale, 0.02, 0.5, gradient), one, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-4)


def test_weight_decay_is_invariant_too():
    without, with_decay = moved_weights(1.0, 0.02, 0.0), moved_weights(1.0, 0.02, 0.5)
    assert max((a - b).abs().max() for a, b in zip(without, with_decay, strict=True)) > 1e-4


def test_one_step_changes_no_weight_by_more_than_the_step_size():
    for moved in moved_weights(1e-2, 5e-5, 1e-2, steps=1):
        assert moved.abs().max() <= 5e-5 * 1.0001 and moved.abs().max() > 4.9e-5


def test_steps_are_those_of_adamw_on_the_weights_written_out():
    step, decay, betas = 0.02, 0.1, (0.9, 0.999)
    net = small_net(torch.float32).requires_grad_(False).double()
    x, y = torch.randn(32, 12, generator=torch.Generator().manual_seed(1)).double(), torch.ones(32, 8).double()
    starts = [layer.weight.clone() for layer in linears(net)]
    first, second = [torch.zeros_like(w) for w in starts], [torch.zeros_like(w) for w in starts]
    for count in range(1, 6):
        weights = [layer.weight.requires_grad_() for layer in linears(net)]
        gradients = torch.autograd.grad((net(x) - y).square().mean(), weights)
        for i, (weight, g) in enumerate(zip(weights, gradients, strict=True)):
            first[i] = betas[0] * first[i] + (1 - betas[0]) * g
            second[i] = betas[1] * second[i] + (1 - betas[1]) * g**2
            rms = (second[i] / (1 - betas[1] ** count)).sqrt() + 1e-8
            shrunk = starts[i] + (weight.data - starts[i]) * (1 - step * decay)
            weight.data = shrunk - step * first[i] / (1 - betas[0] ** count) / rms
    for found, layer, start in zip(moved_weights(1e-2, step, decay), linears(net), starts, strict=True):
        torch.testing.assert_close(found.double(), layer.weight.data - start, atol=1e-5, rtol=1e-3)


def test_residuals_are_removed_when_the_block_ends_or_raises():
    net, x = small_net(), torch.randn(4, 12).double()
    weights, before = [p.clone() for p in net.parameters()], net(x)
    with pytest.raises(KeyError), residuals_on(linears(net), 1.0) as residuals:
        for residual in residuals:
            nn.init.ones_(residual.delta)
        assert not torch.equal(net(x), before)
        raise KeyError
    assert torch.equal(net(x), before)
    assert all(torch.equal(a, b) for a, b in zip(weights, net.parameters(), strict=True))
    assert not any(module._forward_hooks for module in net.modules())


@pytest.mark.parametrize("scale", [0.0, -1.0])
def test_lambda_must_be_above_zero(scale):
    with pytest.raises(ValueError, match="above 0"), residuals_on([nn.Linear(2, 2)], scale):
        pass
