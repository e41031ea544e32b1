"""The memory estimate agrees with PyTorch's allocator in a real step, and changes nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from hybridbooth_core.bases.training import training_bases
from hybridbooth_core.training.config import Data, Optim, ProbeShape
from hybridbooth_core.training.memory_estimate import Memory, estimate_memory
from hybridbooth_core.training.trainer import Trainer

RESAMPLER = ProbeShape("resampler", num_tokens=3, sizes={"layers": 1, "heads": 4})


class Same:
    """A feed of one batch."""

    def __init__(self, trainer: Trainer):
        self._batch = next(trainer.context.source.batches(0, trainer.shard))

    def next(self):
        return self._batch


def handed_out(trainer: Trainer) -> int:
    """The most bytes that PyTorch has given out at once in a step, beside what was there before it."""
    feed = Same(trainer)
    trainer.one_step(feed)  # which makes the optimiser's moments
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        trainer.one_step(feed)
    changes = [event for event in record.profiler.kineto_results.events() if event.name() == "[memory]"]
    now = most = 0
    for change in sorted(changes, key=lambda event: event.start_ns()):
        now += change.nbytes()
        most = max(most, now)
    assert abs(now) < 0.01 * most, "a step leaves nothing behind"
    return most


def size(tensors) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


CHANGES = {
    "checkpointing": {"checkpointing": True, "probe": ProbeShape("promptnet", num_tokens=3)},
    "accumulation": {"micro_batch": 1, "optim": Optim(kind="muon", lr=1e-3)},
    "bf16": {"dtype": "bfloat16"},
}


@pytest.mark.parametrize("name", ["checkpointing", *(pytest.param(name, marks=pytest.mark.slow) for name in ("accumulation", "bf16"))])
def test_a_step_of_the_miniature_takes_what_was_foreseen_and_nothing_is_changed(name, small):
    config = replace(small.CONFIG, **CHANGES[name])
    trainer = small.trainer_of(config)
    context, probe = trainer.context, trainer.learner
    before = {name: (tensor, tensor.clone()) for name, tensor in probe.state_dict(keep_vars=True).items()}
    state = torch.get_rng_state()
    foreseen = estimate_memory(context, probe, config)
    assert torch.equal(torch.get_rng_state(), state) and context._nouns == {}
    after = probe.state_dict(keep_vars=True)
    assert all(after[name] is tensor and torch.equal(tensor, copy) and tensor.grad is None for name, (tensor, copy) in before.items())
    assert all(type(parameter) is torch.nn.Parameter for parameter in context.model.unet.parameters())

    gradients = size(probe.parameters())
    assert foreseen.activations + gradients == pytest.approx(handed_out(trainer), rel=0.01)
    moments = [entry for part in trainer.optimizer.parts.values() for state in part.state.values() for entry in state.values()]
    assert foreseen.optimizer == gradients + size(moments) + size(trainer.average.weights.values())
    assert foreseen.total == foreseen.weights + foreseen.optimizer + foreseen.activations


@pytest.mark.slow
def test_a_step_of_stable_diffusions_layout_takes_what_was_foreseen(configured, readers, shards, monkeypatch):
    monkeypatch.setattr("hybridbooth_core.training.setup._encoders", lambda config, device: readers)
    config = configured(probe=RESAMPLER, micro_batch=1, batch=2, data=Data(shards=shards.plain, interleave=2))
    context, probe, _ = training_bases().prepare(config, torch.device("cpu"))
    foreseen = estimate_memory(context, probe, config)
    model, encoders = context.model, [reader.network for reader in readers]
    weights = size(tensor for part in (model.unet, model.text_encoder, model.coder.vae, *encoders, probe) for tensor in part.parameters())
    assert weights <= foreseen.weights < 1.02 * weights, "and a few tables, such as the schedule"
    gradients = size(probe.parameters())  # which are there from the second micro-batch on
    assert foreseen.activations + gradients == pytest.approx(handed_out(Trainer(config, context, probe)), rel=0.02)


def test_it_says_so_in_a_line():
    assert str(Memory(2_400_000_000, 640_000_000, 460_000_000)) == (
        "3.5 GB: weights 2.4 GB, gradients, optimizer and average 0.64 GB, activations 0.46 GB"
    )
