"""OOM fallbacks of a refinement: every memory plan computes the same step, and a failed attempt leaves nothing behind."""

from __future__ import annotations

import logging
import weakref
from dataclasses import replace

import pytest
import torch

from hybridbooth_core.encoders.features import Reference
from hybridbooth_core.models import memory as memory_module
from hybridbooth_core.models.adapter import AttentionCapture
from hybridbooth_core.models.memory import MemoryPlan, is_out_of_memory, memory_plans, with_fallbacks
from hybridbooth_core.refine.refine import RefineConfig, Task, refine

CONFIG = RefineConfig(mode="words", steps=2, batch=4, validation=5, step_size=0.1, mask_weight=0.5, seed=1)
PLAIN = MemoryPlan(False, 4, 64)


class Needy:
    """A model that runs out of memory if `fails(plan)`; `seen` holds (plan, batch size) of all forward passes."""

    def __init__(self, model, fails, error: type[Exception] = torch.OutOfMemoryError):
        self.model, self.fails, self.error = model, fails, error
        self.plan, self.seen, self.left = None, [], []

    def __getattr__(self, name):
        return getattr(self.model, name)

    def use_plan(self, plan):
        self.plan = plan
        return self.model.use_plan(plan)

    def predict_noise(self, noisy, t, context, capture=None):
        self.seen.append((self.plan, len(noisy)))
        predicted = self.model.predict_noise(noisy, t, context, capture)
        if torch.is_grad_enabled() and self.fails(self.plan):
            self.left.append(weakref.ref(predicted))
            raise self.error("CUDA out of memory. Tried to allocate 2.00 GiB")
        assert not any(lost() is not None for lost in self.left), "an attempt that failed still holds its tensors"
        return predicted


class Counting(Needy):
    """A model that estimates memory: 1 GB per sample, half of that with checkpointing; `free` gigabytes are free."""

    def __init__(self, model, free: float):
        super().__init__(model, lambda plan: False)
        self.free = free

    def memory_needed(self, plan):
        return int(1e9 * plan.batch_size / (2 if plan.checkpointing else 1))

    def memory_free(self):
        return int(1e9 * self.free)


def steps(model, subject, new_probe, config=CONFIG):
    return refine(model, subject.ref, subject.noun, config, new_probe(), subject.features)


def test_the_order_of_the_fallbacks():
    assert memory_plans(4, 512) == [
        MemoryPlan(False, 4, 512),
        MemoryPlan(True, 4, 512),
        MemoryPlan(True, 2, 512),
        MemoryPlan(True, 1, 512),
        MemoryPlan(True, 1, 384),
    ]
    assert memory_plans(1, 64) == [MemoryPlan(False, 1, 64), MemoryPlan(True, 1, 64)]
    assert [plan.batch_size for plan in memory_plans(5, 64)] == [5, 5, 2, 1]


@pytest.mark.parametrize("form", ["balanced", "paper"])
@pytest.mark.parametrize("rows", [1, 2, 3])
def test_gradient_accumulation_gives_the_same_step(world, subject, rows, form):
    """Loss, gradient (with masks) and validation; also with parts of unequal size and at a later step."""
    embeddings = torch.randn(5, 96)
    config = replace(CONFIG, mask_loss=form)
    with torch.enable_grad():
        whole, parts = (Task(world, subject.ref, config, replace(PLAIN, batch_size=count)) for count in (4, rows))
        drawn = whole.sample(4, torch.Generator().manual_seed(5))
        leaf = embeddings.clone().requires_grad_(True)
        loss = whole.loss(leaf, *drawn, with_masks=True, first=12)
        loss.backward()
        found, gradient = parts.gradient(embeddings, *drawn, step=3)
    torch.testing.assert_close(found, loss.detach(), rtol=1e-5, atol=1e-6)
    assert float((gradient - leaf.grad).norm() / leaf.grad.norm()) < 1e-5
    assert parts.validate(embeddings) == pytest.approx(whole.validate(embeddings), rel=1e-5)
    bare = Task(world, Reference(subject.ref.images, None), config, replace(PLAIN, batch_size=rows))
    other = bare.gradient(embeddings, *drawn, step=3)[1]
    assert float((other - gradient).norm() / gradient.norm()) > 1e-3, "masks take part"


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["words", "residual"])
def test_every_plan_refines_alike(world, subject, new_probe, mode):
    torch.manual_seed(7)
    config = replace(CONFIG, mode=mode, step_size={"words": 0.1, "residual": 5e-3}[mode])
    expected = steps(world, subject, new_probe, config)
    assert expected.relative_changes[-1] > 1e-3
    for plan in memory_plans(4, 64)[1:]:
        poor = Needy(world, lambda tried, plan=plan: (tried.checkpointing, -tried.batch_size) < (True, -plan.batch_size))
        torch.manual_seed(7)
        found = steps(poor, subject, new_probe, config)
        assert found.plan == plan
        assert float((found.embeddings - expected.embeddings).norm() / (expected.embeddings - expected.start).norm()) < 1e-3
        assert found.losses == pytest.approx(expected.losses, rel=1e-5)
        assert found.validation == pytest.approx(expected.validation, rel=1e-5)


def test_checkpointing_gives_equal_gradients_and_saves_less(world, subject, new_probe):
    """Also through the captured attention."""
    embeddings = torch.randn(5, 96)
    kept, gradients = [], []
    for checkpointing in (False, True):
        task = Task(world, subject.ref, CONFIG, replace(PLAIN, checkpointing=checkpointing))
        total = 0

        def keep(tensor):
            nonlocal total
            total += tensor.numel()
            return tensor

        with torch.enable_grad(), world.use_plan(task.plan), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            gradients.append(task.gradient(embeddings, *task.sample(4, torch.Generator().manual_seed(5)), step=0)[1])
        kept.append(total)
    assert torch.equal(*gradients) and float(gradients[0].norm()) > 0
    assert kept[1] < kept[0] / 4


def test_checkpointing_leaves_nothing_on_the_blocks(world, monkeypatch):
    noisy, t, context = torch.randn(1, 16, 8, 8), torch.tensor([500]), torch.randn(1, 32, 96, requires_grad=True)
    modules = list(world.unet.modules())
    world.unet.mid_block.resnets[0].forward = own = world.unet.mid_block.resnets[0].forward
    try:
        with world.use_plan(replace(PLAIN, checkpointing=True)):
            world.predict_noise(noisy, t, context, AttentionCapture(torch.tensor([[1]]))).sum().backward()
            with pytest.raises(RuntimeError):
                world.predict_noise(noisy, t, context[..., :5])
        assert [module for module in modules if "forward" in vars(module)] == [world.unet.mid_block.resnets[0]]
        assert world.unet.mid_block.resnets[0].forward == own, "another patch of forward must be restored"
    finally:
        del world.unet.mid_block.resnets[0].forward
    assert context.grad is not None


@pytest.mark.slow
def test_each_fallback_logs_one_line_and_restarts(world, subject, new_probe, caplog):
    captured = []
    poor = Needy(world, lambda plan: plan.batch_size > 1 and poor.seen.count((plan, plan.batch_size)) > 1)
    with caplog.at_level(logging.INFO, "hybridbooth"):
        found = refine(
            poor, subject.ref, subject.noun, CONFIG, new_probe(), subject.features, on_step=lambda step: captured.append(step.done)
        )
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 3 and all("\n" not in line and "restarting with" in line for line in lines)
    assert lines[0].endswith("checkpointing on, batch size 4, 64 px") and lines[2].endswith("checkpointing on, batch size 1, 64 px")
    assert captured[-2:] == [1, 2] and len(found.losses) == 2 and found.plan == MemoryPlan(True, 1, 64)
    assert max(rows for plan, rows in poor.seen if plan == found.plan) == 2, "validation uses small batches too"


def test_smaller_images_are_the_last_resort(world, subject, new_probe, monkeypatch):
    monkeypatch.setattr(memory_module, "SMALL_SIDE", 32)
    poor = Needy(world, lambda plan: plan.side > 32)
    found = steps(poor, subject, new_probe)
    assert found.plan == MemoryPlan(True, 1, 32) and len(found.losses) == 2 and torch.isfinite(found.embeddings).all()


def test_the_error_when_no_plan_fits(world, subject, new_probe, refuses):
    poor = Needy(world, lambda plan: True)
    message = refuses(steps, poor, subject, new_probe)
    assert "checkpointing on, batch size 1" in message and "close other programs" in message
    assert len(poor.left) == 4 and not any(lost() is not None for lost in poor.left), "memory was not freed"
    assert not any("forward" in vars(module) for module in world.unet.modules())


def test_the_error_names_the_estimate_if_there_is_one(world, refuses):
    def attempt(plan):
        raise MemoryError

    assert "about 0.5 GB needed, 0.2 GB free" in refuses(with_fallbacks, Counting(world, 0.2), memory_plans(4, 64), attempt)


def test_other_errors_pass_through(world, subject, new_probe):
    poor = Needy(world, lambda plan: True, error=ValueError)
    with pytest.raises(ValueError, match="out of memory"):
        steps(poor, subject, new_probe)
    assert len(poor.left) == 1


@pytest.mark.parametrize(("free", "first"), [(4.5, 0), (3.9, 1), (1.9, 2), (0.6, 3), (0.1, 3)])
def test_starts_with_the_first_plan_that_fits(world, subject, new_probe, caplog, free, first):
    model = Counting(world, free)
    with caplog.at_level(logging.INFO, "hybridbooth"):
        found = steps(model, subject, new_probe, replace(CONFIG, steps=1))
    assert found.plan == memory_plans(4, 64)[first] and {plan for plan, _ in model.seen} == {found.plan}
    assert found.memory_estimate == model.memory_needed(found.plan)
    assert len(caplog.records) == (first > 0)


def test_a_model_without_memory_protocols_uses_the_plain_plan(world, subject, new_probe):
    class Simple:
        def __getattr__(self, name):
            if name in ("use_plan", "memory_needed", "memory_free"):
                raise AttributeError(name)
            return getattr(world, name)

    found = steps(Simple(), subject, new_probe)
    assert found.plan == PLAIN and found.memory_estimate is None
    assert torch.equal(found.embeddings, steps(world, subject, new_probe).embeddings)


def test_what_counts_as_out_of_memory():
    with pytest.raises(RuntimeError) as real:
        torch.empty(1 << 50, dtype=torch.uint8)
    assert is_out_of_memory(real.value)
    assert is_out_of_memory(torch.OutOfMemoryError("HIP out of memory")) and is_out_of_memory(MemoryError())
    assert is_out_of_memory(RuntimeError("MPS backend out of memory (MPS allocated: 5 GB)"))
    assert not is_out_of_memory(RuntimeError("shapes cannot be multiplied")) and not is_out_of_memory(ValueError("out of memory"))
