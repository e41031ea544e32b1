"""Updates against torch's own optimisers used directly; the rate and the moving average against formulas in float64."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from hybridbooth_core.training.optimizer import Average, Optimizer, rate_at

needs_muon = pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch.optim.Muon needs torch 2.9")
LR, MUON, DECAY = 3e-3, 0.02, 0.1


class Net(nn.Module):
    """One of each: a convolution, a table, a matrix, vectors, and one without gradient."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.out = nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8), nn.Linear(8, 4)
        self.table, self.frozen = nn.Embedding(5, 8), nn.Linear(4, 4).requires_grad_(False)


def fresh() -> Net:
    torch.manual_seed(4)
    return Net()


def give_gradients(net: nn.Module, step: int, scale: float = 1.0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(step)
    for parameter in (p for p in net.parameters() if p.requires_grad):
        parameter.grad = torch.randn(parameter.shape, generator=generator) * scale
    return {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(value, b.state_dict()[name]) for name, value in a.state_dict().items())


def clipped(net: nn.Module, most: float) -> float:
    """Clip by hand; the norm in float64."""
    gradients = [p.grad for p in net.parameters() if p.grad is not None]
    norm = math.sqrt(sum(g.double().square().sum().item() for g in gradients))
    for gradient in gradients:
        gradient.mul_(min(most / norm, 1))
    return norm


def test_adamw_is_torch_s_own_with_decay_for_matrices_alone():
    net, plain = fresh(), fresh()
    optimizer = Optimizer([net], LR, weight_decay=DECAY, clip=1e9)
    matrices, vectors = (
        [plain.conv.weight, plain.out.weight],
        [plain.conv.bias, *plain.norm.parameters(), plain.out.bias, plain.table.weight],
    )
    groups = [{"params": matrices, "weight_decay": DECAY}, {"params": vectors, "weight_decay": 0.0}]
    reference = torch.optim.AdamW(groups, lr=LR, betas=(0.9, 0.99))
    for step, rate in enumerate((0.1, 1.0, 0.5)):
        for one in (net, plain):
            give_gradients(one, step)
        for group in reference.param_groups:
            group["lr"] = LR * rate
        optimizer.step(rate)
        reference.step()
    assert same(net, plain) and not same(net, fresh())
    assert all(p.grad is None for p in net.parameters())


@needs_muon
def test_muon_is_torch_s_own_on_flattened_weights():
    net, plain = fresh(), fresh()
    optimizer = Optimizer([net], LR, MUON, DECAY, clip=1e9)
    flat = nn.Parameter(plain.conv.weight.detach().clone().flatten(1))
    muon = torch.optim.Muon([flat, plain.out.weight], lr=MUON, weight_decay=DECAY, adjust_lr_fn="original")
    adam = torch.optim.AdamW(
        [plain.conv.bias, *plain.norm.parameters(), plain.out.bias, plain.table.weight], lr=LR, betas=(0.9, 0.99), weight_decay=0
    )
    for step in range(3):
        for one in (net, plain):
            give_gradients(one, step)
        flat.grad = plain.conv.weight.grad.flatten(1)
        optimizer.step(1.0)
        muon.step()
        adam.step()
    assert torch.equal(net.conv.weight.flatten(1), flat) and torch.equal(net.out.weight, plain.out.weight)
    assert all(torch.equal(net.state_dict()[name], plain.state_dict()[name]) for name in ("conv.bias", "table.weight", "norm.weight"))


@needs_muon
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_gradient_is_clipped_to_its_norm(layout):
    """Whatever the layout of a convolution's gradient."""
    net, plain = fresh(), fresh()
    optimizer, reference = (Optimizer([one], LR, MUON, clip=most) for one, most in ((net, 0.5), (plain, 1e9)))
    for step in range(2):
        for one in (net, plain):
            give_gradients(one, step)
            one.conv.weight.grad = one.conv.weight.grad.contiguous(memory_format=layout)
        norm = clipped(plain, 0.5)
        assert optimizer.step(1.0) == pytest.approx(norm, rel=1e-6) and norm > 0.5
        assert reference.step(1.0) == pytest.approx(0.5, rel=1e-6)
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(net.state_dict()[name], value, atol=1e-5, rtol=1e-5)


@needs_muon
@pytest.mark.parametrize("muon", [None, MUON])
def test_a_scaled_gradient_makes_the_same_step(muon):
    net, plain = fresh(), fresh()
    optimizer, reference = Optimizer([net], LR, muon, clip=0.5), Optimizer([plain], LR, muon, clip=0.5)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    scaler.scale(torch.ones(()))
    for step in range(3):
        give_gradients(net, step, 1024)
        give_gradients(plain, step)
        assert optimizer.step(1.0, scaler) == reference.step(1.0)
    assert same(net, plain) and scaler.get_scale() == 1024


@needs_muon
@pytest.mark.parametrize("value", [float("inf"), float("nan")])
@pytest.mark.parametrize("where", ["conv.weight", "out.bias"])  # one is Muon's, the other AdamW's
@pytest.mark.parametrize("scaled", [False, True])
def test_what_is_not_finite_changes_nothing(value, where, scaled):
    net, plain = fresh(), fresh()
    optimizer, reference = Optimizer([net], LR, MUON), Optimizer([plain], LR, MUON)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0) if scaled else None
    if scaler:
        scaler.scale(torch.ones(()))
    for step in range(3):
        give_gradients(net, step, scaler.get_scale() if scaler else 1)
        if step == 1:
            dict(net.named_parameters())[where].grad.view(-1)[0] = value
            assert not math.isfinite(optimizer.step(1.0, scaler))
            assert all(p.grad is None for p in net.parameters())
            continue
        give_gradients(plain, step)
        optimizer.step(1.0, scaler)
        reference.step(1.0)
    assert same(net, plain), "as if the bad step had never been"
    assert scaler is None or scaler.get_scale() == 1


def test_a_state_goes_on_with_the_settings_of_now():
    net, plain = fresh(), fresh()
    first = Optimizer([net], LR, weight_decay=DECAY)
    give_gradients(net, 0)
    first.step(0.3)
    plain.load_state_dict(net.state_dict())
    second = Optimizer([plain], LR / 2, weight_decay=0.5)
    second.load_state_dict(first.state_dict())
    for part in (first, second):
        assert {int(state["step"]) for state in part.parts["adam"].state.values()} == {1}
    assert [group["weight_decay"] for group in second.parts["adam"].param_groups] == [0.5, 0]
    give_gradients(plain, 1)
    second.step(1.0)
    assert {group["lr"] for group in second.parts["adam"].param_groups} == {LR / 2}
    give_gradients(net, 1)
    first.step(1.0)
    assert not same(net, plain)


def test_the_rate_rises_stays_and_falls_to_zero():
    steps, warmup, decay = 1000, 100, 0.25
    for step in range(steps):
        expected = min((step + 1) / warmup, 1.0, (steps - step) / 250)
        assert rate_at(step, steps, warmup, decay) == pytest.approx(expected, rel=1e-12)
    assert rate_at(0, steps, 0, 0) == rate_at(999, steps, 0, 0) == 1.0, "without warmup and decay"
    assert rate_at(999, steps, warmup, decay) == pytest.approx(1 / 250)


def test_the_average_is_its_formula():
    """In float64: a_t = d_t a_(t-1) + (1 - d_t) w_t with d_t = min(decay, (t + 1) / (t + 10)); what is counted is taken as it is."""
    generator = torch.Generator().manual_seed(1)
    rows = torch.randn(30, 7, generator=generator)
    start = torch.randn(7, generator=generator)
    average = Average({"w": start, "count": torch.tensor(0)}, 0.7)
    expected = start.double()
    for step, row in enumerate(rows):
        average.update({"w": row, "count": torch.tensor(step)}, step)
        decay = min(0.7, (step + 1) / (step + 10))
        expected = decay * expected + (1 - decay) * row.double()
        torch.testing.assert_close(average.weights["w"].double(), expected, atol=1e-5, rtol=1e-5)
    assert average.weights["count"].item() == 29 and average.weights["w"] is not start
    average.load({"w": start, "count": torch.tensor(3)})
    assert torch.equal(average.weights["w"], start) and average.weights["w"].data_ptr() != start.data_ptr()
