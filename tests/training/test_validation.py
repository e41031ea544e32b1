"""Does it learn: rows that never change, and an early word on it."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from hybridbooth_core.miniature.training.source import MiniatureSource
from hybridbooth_core.probe.learner import Learner
from hybridbooth_core.probe.probe import Probe
from hybridbooth_core.training.config import Data, Loss, TrainConfig
from hybridbooth_core.training.context import TrainingContext
from hybridbooth_core.training.validation import Validation, verdict

CONFIG = TrainConfig(dtype="float32", loss=Loss(times=(0.3, 0.9), background=0.5), log=replace(TrainConfig().log, validation_samples=6))


class Guess(Learner):
    """In a probe's place: the same words for every image."""

    def __init__(self, embeddings: torch.Tensor):
        super().__init__()
        self.embeddings = embeddings

    def forward(self, features, nouns):
        return self.embeddings.expand(len(nouns), -1, -1)

    prompts = Probe.prompts


@pytest.fixture(scope="module")
def context(world, encoders) -> TrainingContext:
    return TrainingContext(world, encoders.clip, encoders.dino, MiniatureSource(Data(), 0))


@pytest.fixture(scope="module")
def validation(context) -> Validation:
    return Validation(CONFIG, context)


def test_rows_are_the_same_every_time(validation, context):
    embeddings = torch.randn(5, 96, generator=torch.Generator().manual_seed(1))
    before = validation.rows(Guess(embeddings))
    assert before.shape == (6,) and before.dtype == torch.float32 and not before.requires_grad
    torch.rand(10)
    assert torch.equal(validation.rows(Guess(embeddings)), before)
    assert torch.equal(Validation(CONFIG, context).rows(Guess(embeddings)), before)
    assert not torch.equal(validation.rows(Guess(embeddings * 3)), before)


def test_the_baseline_is_the_class_noun_instead_of_the_embeddings(validation, context):
    """Batch by batch: as if a probe had guessed the noun, which for the miniature is one word."""
    (batch,) = context.source.held_out(6)
    nouns = torch.stack([context.model.token_embeddings(noun) for noun in batch.nouns])
    assert nouns.shape[1] == 1

    class Noun(Guess):
        def forward(self, features, _):
            return nouns

    assert torch.equal(validation.rows(Noun(nouns)), validation.noun)
    assert len(set(validation.noun.tolist())) == 6


def test_pieces_make_no_difference(context):
    embeddings = torch.randn(5, 96, generator=torch.Generator().manual_seed(1))
    pieces = SimpleNamespace(held_out=lambda count: [split(context.source.held_out(count)[0], rows) for rows in ([0, 1], [2, 3, 4], [5])])
    apart = Validation(CONFIG, TrainingContext(context.model, context.clip, context.dino, pieces))
    torch.testing.assert_close(apart.rows(Guess(embeddings)), Validation(CONFIG, context).rows(Guess(embeddings)))


def split(batch, rows):
    tensors = {name: getattr(batch, name)[rows] for name in ("clip", "dino", "reference", "target", "masks", "masked")}
    return replace(batch, rows=rows, nouns=[batch.nouns[r] for r in rows], templates=[batch.templates[r] for r in rows], **tensors)


@pytest.mark.parametrize("fall", [0.0, 0.01, 0.05, -0.05])
def test_the_verdict_is_twice_the_standard_error_of_pairs(fall):
    generator = torch.Generator().manual_seed(5)
    before = torch.rand(40, generator=generator)
    now = before - fall + 0.04 * torch.randn(40, generator=generator)
    said = verdict(before, now, torch.full((40,), 0.6), 12)
    differences = (before - now).double().numpy()
    error = np.std(differences, ddof=1) / np.sqrt(40)
    assert said.go == (differences.mean() > 2 * error)
    assert f"after 12 steps the validation loss went from {before.mean():.4f} to {now.mean():.4f}" in said.line
    assert f"standard error {error:.4f}" in said.line and "0.6000" in said.line and "\n" not in said.line
    assert ("no-go" in said.line) == (not said.go)


def test_both_verdicts_occur():
    before = torch.linspace(0.5, 1.0, 20)
    assert verdict(before, before - torch.linspace(0.05, 0.06, 20), before, 1).go
    assert not verdict(before, before + 0.01, before, 1).go
    assert not verdict(before, before.clone(), before, 1).go


def test_one_row_proves_nothing():
    said = verdict(torch.ones(1), torch.zeros(1), torch.ones(1), 1)
    assert not said.go and "nan" not in said.line
