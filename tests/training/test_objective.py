"""The objective against diffusers and transformers called plainly, all of it in float64."""

from __future__ import annotations

import copy
import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from hybridbooth_core.miniature.vocabulary import MiniatureTokenizer
from hybridbooth_core.probe.learner import Learner
from hybridbooth_core.probe.probe import Probe
from hybridbooth_core.training.batch import Batch
from hybridbooth_core.training.config import Loss
from hybridbooth_core.training.objective import Inputs, objective, times_and_noise, unwrapped

ROWS, WORDS, WIDTH, NORM = 4, 3, 96, 1.7
SENTENCES = [("a photo of", "on snow"), ("", ""), ("a small", ""), ("a photo of a", "at night")]
T = torch.tensor([999, 420, 0, 700])


class Guess(Learner):
    """In a probe's place: words that do not look at anything."""

    def __init__(self):
        super().__init__()
        self.config = SimpleNamespace(embedding_norm=NORM)
        self.embeddings = nn.Parameter(0.5 * torch.randn(ROWS, WORDS, WIDTH, generator=torch.Generator().manual_seed(1)))

    def forward(self, features, nouns):
        return self.embeddings[features]

    prompts, penalty = Probe.prompts, Probe.penalty


@pytest.fixture(scope="module")
def batch() -> Batch:
    y, x = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    masks = torch.stack([((y - 30) ** 2 + (x - 20 - 4 * row) ** 2 < (10 + 3 * row) ** 2).float() for row in range(ROWS)])
    masked = torch.tensor([True, False, True, True])
    masks[~masked] = 1
    empty = torch.zeros(ROWS, 0)
    return Batch(range(ROWS), empty, empty, empty, empty, masks, masked, ["cat"] * ROWS, SENTENCES)


@pytest.fixture(scope="module")
def latents() -> torch.Tensor:
    return torch.randn(ROWS, 16, 8, 8, generator=torch.Generator().manual_seed(2))


@pytest.fixture(scope="module")
def noise() -> torch.Tensor:
    return torch.randn(ROWS, 16, 8, 8, generator=torch.Generator().manual_seed(3))


@pytest.fixture(scope="module")
def plainly(world, batch, latents, noise):
    """A function: words [B, n, d] (float64) to what the losses of a batch are by their definitions."""
    unet, text = copy.deepcopy(world.unet).double(), copy.deepcopy(world.text_encoder).double()
    inner = getattr(text, "text_model", text)
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    alpha_squared = torch.cumprod(1 - betas, 0)[T][:, None, None, None]
    alpha, sigma = alpha_squared.sqrt(), (1 - alpha_squared).sqrt()
    augmented: list[torch.Tensor] = []

    class Listening:
        def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, *_, **__):
            given = hidden_states if encoder_hidden_states is None else encoder_hidden_states
            query, key, value = attn.to_q(hidden_states), attn.to_k(given), attn.to_v(given)
            query, key, value = (attn.head_to_batch_dim(one) for one in (query, key, value))
            shares = attn.get_attention_scores(query, key, attention_mask)
            if encoder_hidden_states is not None:
                augmented.append(shares.unflatten(0, (ROWS, attn.heads)))
            return attn.to_out[1](attn.to_out[0](attn.batch_to_head_dim(shares @ value)))

    unet.set_attn_processor(Listening())

    def context_of(row: int, embeddings: torch.Tensor) -> tuple[torch.Tensor, list[int]]:
        tokenizer = MiniatureTokenizer()
        before, after = (tokenizer.encode(part) for part in SENTENCES[row])
        ids = [tokenizer.start, *before, *[tokenizer.pad] * WORDS, *after, tokenizer.end]
        ids += [tokenizer.pad] * (tokenizer.length - len(ids))
        columns = list(range(1 + len(before), 1 + len(before) + WORDS))
        table = inner.embeddings.token_embedding.weight[torch.tensor(ids)]
        x = torch.cat([table[: columns[0]], embeddings, table[columns[-1] + 1 :]])
        x = (x + inner.embeddings.position_embedding.weight[: len(ids)])[None]
        mask = torch.full((len(ids), len(ids)), float("-inf"), dtype=torch.float64).triu(1)[None, None]
        for layer in inner.encoder.layers:
            out = layer(x, attention_mask=mask, causal_attention_mask=None)  # transformers 4 asks for both
            x = out[0] if isinstance(out, tuple) else out
        return inner.final_layer_norm(x)[0], columns

    def small(masks: torch.Tensor, side: int) -> torch.Tensor:
        return F.interpolate(masks.double()[:, None], size=(side, side), mode="bilinear", antialias=True)[:, 0]

    def losses(embeddings: torch.Tensor, loss: Loss) -> dict[str, torch.Tensor]:
        augmented.clear()
        contexts, columns = zip(*(context_of(row, embeddings[row]) for row in range(ROWS)), strict=True)
        x0, eps = latents.double(), noise.double()
        out = unet(alpha * x0 + sigma * eps, T, torch.stack(contexts)).sample
        target = alpha * eps - sigma * x0  # the miniature predicts velocities
        weight = loss.background + (1 - loss.background) * small(batch.masks, 8)
        weight = weight / weight.mean((1, 2), keepdim=True)
        denoising = ((out - target) ** 2 * weight[:, None]).mean()
        attention, layers = torch.zeros((), dtype=torch.float64), len(augmented)
        for shares in augmented:
            side = math.isqrt(shares.shape[2])
            for row in (0, 2, 3):
                inside = small(batch.masks[row : row + 1], side).flatten()
                augmentations = shares[row][:, :, list(columns[row])]
                off = (augmentations * (1 - inside)[None, :, None]).sum(1) / ((1 - inside).sum() + 1e-5)
                on = (augmentations * inside[None, :, None]).sum(1) / (inside.sum() + 1e-5)
                attention = attention + (off - on).mean() / (layers * ROWS)  # a row without a mask adds nothing
        length = (embeddings.norm(dim=-1) / NORM).square().mean()
        total = denoising + loss.mask_weight * attention + loss.norm_weight * length
        return {"total": total, "denoising": denoising, "attention": attention, "length": length}

    return losses


def asked(world, loss, batch, latents, noise, rows=range(ROWS)):
    """The objective of some rows, and the gradient of its total in the words."""
    guess, rows = Guess(), list(rows)
    part = Batch(
        rows, batch.clip, batch.dino, batch.reference, batch.target, batch.masks[rows], batch.masked[rows], ["cat"] * len(rows),
        [batch.templates[row] for row in rows],
    )  # fmt: skip
    inputs = Inputs(torch.tensor(rows), latents[rows], torch.zeros(len(rows), WIDTH))
    with objective(guess, world, loss, part, inputs, T[rows], noise[rows]) as found:
        found.total.backward()
    return found, guess.embeddings.grad


@pytest.mark.parametrize("loss", [Loss(mask_weight=0.7, norm_weight=0.1), Loss(background=1, mask_weight=0, norm_weight=0)])
def test_it_is_its_definition(loss, world, plainly, batch, latents, noise):
    embeddings = Guess().embeddings.detach().double().requires_grad_(True)
    expected = plainly(embeddings, loss)
    expected["total"].backward()
    found, gradient = asked(world, loss, batch, latents, noise)
    for name, value in expected.items():
        if name == "attention" and not loss.mask_weight:
            value = torch.zeros(())  # nobody looks where it is not asked for
        torch.testing.assert_close(getattr(found, name).double(), value.double(), atol=1e-5, rtol=1e-5)
    assert embeddings.grad.abs().max() > 1e-4
    torch.testing.assert_close(gradient.double(), embeddings.grad, atol=1e-6, rtol=1e-3)


def test_a_batch_is_the_mean_of_its_rows_however_they_are_shared_out(world, batch, latents, noise):
    loss = Loss(mask_weight=0.7, norm_weight=0.1)
    whole, gradient = asked(world, loss, batch, latents, noise)
    first, second = (asked(world, loss, batch, latents, noise, rows) for rows in ([0, 2], [1, 3]))
    for name in ("total", "denoising", "attention", "length"):
        torch.testing.assert_close((getattr(first[0], name) + getattr(second[0], name)) / 2, getattr(whole, name))
    torch.testing.assert_close((first[1] + second[1]) / 2, gradient, atol=1e-6, rtol=1e-4)


def test_without_any_mask_nothing_is_asked_of_the_attention(world, batch, latents, noise):
    found, _ = asked(world, Loss(mask_weight=0.7), batch, latents, noise, [1])
    assert found.attention.item() == 0


def rows_of(*rows: int) -> SimpleNamespace:
    return SimpleNamespace(rows=rows)


def test_times_are_one_of_each_part_of_the_range_and_noise_is_normal():
    loss, shape = Loss(times=(0.2, 0.8)), (16, 8, 8)
    for step in range(20):
        t, noise = times_and_noise(loss, rows_of(*range(12)), 12, shape, 1000, 3, step)
        assert [int((time - 200) // 50) for time in sorted(t.tolist())] == list(range(12))
        assert noise.mean().abs() < 0.04 and (noise.std() - 1).abs() < 0.03
        assert (torch.corrcoef(noise.flatten(1)) - torch.eye(12)).abs().max() < 0.15
    assert t.tolist() != sorted(t.tolist())


def test_times_and_noise_are_those_of_the_row_whoever_computes_it():
    arguments = (8, (2, 3, 3), 1000, 5, 7)
    t, noise = times_and_noise(Loss(), rows_of(*range(8)), *arguments)
    other_t, other_noise = times_and_noise(Loss(), rows_of(6, 1), *arguments)
    assert torch.equal(other_t, t[[6, 1]]) and torch.equal(other_noise, noise[[6, 1]])
    for seed, step in ((5, 8), (6, 7)):
        another = times_and_noise(Loss(), rows_of(*range(8)), 8, (2, 3, 3), 1000, seed, step)
        assert not torch.equal(another[1], noise) and not torch.equal(another[0], t)


def test_a_wrapped_learner_is_found():
    guess = Guess()
    assert unwrapped(guess) is guess and unwrapped(SimpleNamespace(module=guess)) is guess  # type: ignore[arg-type]
