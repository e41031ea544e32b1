"""The training loop: a run that was interrupted ends bit for bit like one that was not, and no bad step reaches the disk."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from torch import nn

from hybridbooth_core.miniature.training.loop import Schedule, train
from hybridbooth_core.models.seeds import stage_generator
from hybridbooth_core.training.optimizer import Optimizer

pytestmark = pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch.optim.Muon needs torch 2.9")

SHORT = Schedule(steps=12, batch=4, warmup=3, save_every=4)


class Net(nn.Module):
    """One of each: a convolution, running statistics, a table, a matrix, vectors."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.table, self.out = nn.Embedding(5, 8), nn.Linear(8, 2)

    def forward(self, x, ids):
        return self.out(self.norm(self.conv(x)).mean((2, 3)) + self.table(ids))


def fresh() -> dict[str, nn.Module]:
    torch.manual_seed(3)
    return {"net": Net()}


def loss_of(modules, stop_at: int | None = None, spoil_at: int | None = None):
    """A loss on noise of the step's generator; raises or is NaN at a step."""

    def loss(generator, step):
        if step == stop_at:
            raise KeyboardInterrupt
        x = torch.randn(4, 3, 8, 8, generator=generator)
        ids = torch.randint(5, (4,), generator=generator)
        value = (modules["net"](x, ids) - x.mean((2, 3))[:, :2]).square().mean()
        return value * float("nan") if step == spoil_at else value

    return loss


def run(folder, schedule=SHORT, seed=0, check=None, check_every=1000, **at) -> dict[str, torch.Tensor]:
    modules = fresh()
    train("stage", modules, loss_of(modules, **at), schedule, folder, seed, check and check(modules), check_every)
    assert not modules["net"].training and not any(p.requires_grad for p in modules["net"].parameters())
    return modules["net"].state_dict()


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(a[key], b[key]) for key in a)


@pytest.fixture
def whole(tmp_path):
    return run(tmp_path / "whole")


@pytest.mark.parametrize("stops", [[4], [5], [7, 9], [11], [2]])
def test_interrupted_and_resumed_is_bit_for_bit_the_same(tmp_path, whole, stops):
    for stop in stops:
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "parts", stop_at=stop)
    assert same(run(tmp_path / "parts"), whole)


def test_a_check_changes_nothing(tmp_path):
    def check(modules):
        def numbers():
            net = modules["net"]
            assert not net.training and not torch.is_grad_enabled()
            torch.rand(5)
            return {"size": net(torch.ones(2, 3, 8, 8), torch.tensor([0, 1])).square().mean().item()}

        return numbers

    longer = replace(SHORT, steps=120)
    assert same(run(tmp_path / "checked", longer, check=check, check_every=100), run(tmp_path / "plain", longer))
    rows = [json.loads(line) for line in (tmp_path / "checked" / "stage.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [100, 120] and all(row["size"] > 0 for row in rows)
    assert {"loss", "grad_norm", "seconds"} <= set(rows[0])


def test_a_complete_stage_is_loaded_and_not_trained(tmp_path, whole):
    again = run(tmp_path / "whole", stop_at=0, spoil_at=0)
    assert same(again, whole)


def test_it_is_a_function_of_its_seed_and_learns(tmp_path, whole):
    assert same(run(tmp_path / "again"), whole)
    assert not same(run(tmp_path / "other", seed=1), whole)
    start = fresh()["net"].state_dict()
    assert all(not torch.equal(start[key], whole[key]) for key in start)
    modules = fresh()
    losses = []
    inner = loss_of(modules)

    def loss(generator, step):
        losses.append(inner(generator, step))
        return losses[-1]

    train("stage", modules, loss, replace(SHORT, steps=60), tmp_path / "longer")
    assert sum(losses[-10:]) < 0.5 * sum(losses[:10])


@pytest.mark.parametrize("spoil", [0, 4, 6, 11])
def test_a_loss_that_is_nan_stops_and_keeps_the_last_good_state(tmp_path, whole, spoil):
    with pytest.raises(FloatingPointError, match=f"stage .* at step {spoil}"):
        run(tmp_path / "bad", spoil_at=spoil)
    path = tmp_path / "bad" / "stage.ckpt"
    assert path.exists() == (spoil >= 4)
    if path.exists():
        state = torch.load(path, weights_only=True)
        assert state["step"] == spoil // 4 * 4
        assert all(torch.isfinite(value).all() for value in state["modules"]["net"].values())
    assert same(run(tmp_path / "bad"), whole), "mended, it goes on as if nothing had been"


def test_a_gradient_that_is_not_finite_never_reaches_the_disk(tmp_path):
    """The loss of step 3 is finite, its gradient is not, and step 4 would be saved."""
    modules = fresh()
    inner = loss_of(modules)

    def loss(generator, step):
        value = inner(generator, step)
        return value + (modules["net"].out.bias.sum() * 0).sqrt() if step == 3 else value  # the slope of a root at 0 is infinite

    with pytest.raises(FloatingPointError, match="at step 3"):
        train("stage", modules, loss, SHORT, tmp_path)
    assert not (tmp_path / "stage.ckpt").exists()


def test_a_write_that_fails_keeps_the_old_checkpoint(tmp_path, whole, monkeypatch):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "parts", stop_at=5)
    before = (tmp_path / "parts" / "stage.ckpt").read_bytes()

    def torn(state, file):
        file.write(b"half of")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("hybridbooth_core.miniature.training.loop.torch.save", torn)
        with pytest.raises(OSError, match="No space"):
            run(tmp_path / "parts")
    assert (tmp_path / "parts" / "stage.ckpt").read_bytes() == before and not list((tmp_path / "parts").glob(".*"))
    assert same(run(tmp_path / "parts"), whole)


def test_weights_end_as_their_moving_average(tmp_path):
    """Written out in float64 over the training weights after every step."""
    modules, seen = fresh(), []
    inner = loss_of(modules)

    def loss(generator, step):
        seen.append(modules["net"].out.weight.detach().double().clone())
        return inner(generator, step)

    train("stage", modules, loss, SHORT, tmp_path)
    state = torch.load(tmp_path / "stage.ckpt", weights_only=True)
    seen.append(state["modules"]["net"]["out.weight"].double())
    average = seen[0]
    for step, weights in enumerate(seen[1:]):
        decay = min(SHORT.ema, (step + 1) / (step + 10))
        average = decay * average + (1 - decay) * weights
    torch.testing.assert_close(modules["net"].out.weight.double(), average, atol=1e-5, rtol=1e-4)


def test_the_rate_warms_up_stays_and_falls_to_zero():
    rates = [Schedule(1000, 1, warmup=100, decay=0.6).rate(step) for step in range(1000)]
    assert rates[0] == 0.01 and rates[99] == 1 and set(rates[99:400]) == {1.0}
    assert 0 < rates[-1] < 0.01 and rates[400:] == sorted(rates[400:], reverse=True)


def test_matrices_go_to_muon_and_tables_and_vectors_to_adam():
    net = Net()
    optimizer = Optimizer([net], SHORT.adam_lr, SHORT.muon_lr)
    assert {id(p) for p in optimizer.wide} == {id(net.conv.weight), id(net.out.weight)}
    assert optimizer.flat[0].shape == (8, 27) and optimizer.flat[0].data_ptr() == net.conv.weight.data_ptr()
    adam = {id(p) for group in optimizer.parts["adam"].param_groups for p in group["params"]}
    assert adam == {id(p) for p in (net.conv.bias, net.norm.weight, net.norm.bias, net.table.weight, net.out.bias)}


def test_numbers_of_a_step_depend_on_seed_stage_and_step():
    def number(*key):
        return torch.rand((), generator=stage_generator(*key)).item()

    keys = [(seed, stage, step) for seed in (0, 1, 1000) for stage in ("base", "probe") for step in (0, 1, 11_999)]
    assert len({number(*key) for key in keys}) == len(keys) and number(1, "base", 5) == number(1, "base", 5)
