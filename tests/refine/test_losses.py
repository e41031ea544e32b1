"""The losses against their formulas in float64, and their values in limiting cases."""

from __future__ import annotations

import pytest
import torch

from hybridbooth_core.models.attention import mask_at
from hybridbooth_core.refine.losses import denoising_loss, mask_regularisation, subject_weight


def square_mask(side: int = 8, rows: int = 2) -> torch.Tensor:
    """The subject is the left half."""
    mask = torch.zeros(rows, side, side)
    mask[:, :, : side // 2] = 1
    return mask


def maps_on(mask: torch.Tensor, value: float = 1.0) -> torch.Tensor:
    """Attention `value` of both words of both heads exactly on the mask."""
    return value * mask.flatten(1)[:, None, :, None].expand(-1, 2, -1, 2)


def test_denoising_loss_is_a_weighted_mean_of_squares():
    predicted, noise, weight = torch.randn(3, 4, 8, 8), torch.randn(3, 4, 8, 8), torch.rand(3, 1, 8, 8)
    expected = ((predicted.double() - noise.double()) ** 2 * weight.double()).flatten(1).mean(1)
    torch.testing.assert_close(denoising_loss(predicted, noise, weight).double(), expected, atol=1e-6, rtol=1e-5)


def test_denoising_loss_of_half_precision_does_not_overflow():
    predicted = torch.full((1, 4, 2, 2), 300.0).half()
    assert denoising_loss(predicted, torch.zeros(1, 4, 2, 2), torch.ones(1, 1, 2, 2)).item() == 90000


def test_denoising_loss_refuses_other_shapes():
    with pytest.raises(ValueError, match="one shape"):
        denoising_loss(torch.zeros(1, 4, 8, 8), torch.zeros(1, 4, 4, 4), torch.ones(1, 1, 8, 8))


def test_without_a_mask_all_weights_are_one():
    assert torch.equal(subject_weight(None, torch.zeros(2, 4, 8, 8), 0.2), torch.ones(2, 1, 8, 8))


@pytest.mark.parametrize("background", [0.0, 0.2, 1.0])
def test_the_weight_has_mean_one_and_the_ratio_of_the_background(background):
    weight = subject_weight(square_mask(), torch.zeros(2, 4, 8, 8), background)
    assert weight.shape == (2, 1, 8, 8)
    torch.testing.assert_close(weight.mean((1, 2, 3)), torch.ones(2))
    torch.testing.assert_close(weight[..., -1] / weight[..., 0], torch.full((2, 1, 8), background))


def test_the_weight_of_a_large_mask_is_its_average_at_the_size_of_the_latents():
    weight = subject_weight(square_mask(64), torch.zeros(2, 4, 8, 8), 0.5)
    torch.testing.assert_close(weight[..., 7] / weight[..., 0], torch.full((2, 1, 8), 0.5))


def test_a_mask_of_another_batch_is_refused():
    with pytest.raises(ValueError, match="2 images"):
        subject_weight(square_mask(rows=3), torch.zeros(2, 4, 8, 8), 0.2)


@pytest.mark.parametrize("form", ["balanced", "paper"])
def test_mask_regularisation_is_its_formula(form):
    mask = torch.rand(2, 16, 16)
    layers = [torch.rand(2, 4, 64, 5), torch.rand(2, 2, 16, 5)]
    terms = []
    for layer in layers:
        m, total, count = mask_at(mask, layer.shape[2]).double(), 0.0, 0
        for b in range(layer.shape[0]):
            for h in range(layer.shape[1]):
                for word in range(layer.shape[3]):
                    a = layer[b, h, :, word].double()
                    off, on = (a * (1 - m[b])).sum(), (a * m[b]).sum()
                    if form == "paper":
                        total += (off - on) / len(a)
                    else:
                        total += off / (1 - m[b]).sum() - on / m[b].sum()
                    count += 1
        terms.append(total / count)
    expected = sum(terms) / len(terms)
    torch.testing.assert_close(mask_regularisation(layers, mask, form).double(), expected, atol=1e-5, rtol=1e-4)


def test_balanced_runs_from_minus_one_to_one_with_uniform_attention_at_zero():
    mask = square_mask()
    assert mask_regularisation([maps_on(mask)], mask).item() == pytest.approx(-1, abs=1e-4)
    assert mask_regularisation([maps_on(1 - mask)], mask).item() == pytest.approx(1, abs=1e-4)
    assert mask_regularisation([torch.full((2, 2, 64, 2), 0.3)], mask).item() == pytest.approx(0, abs=1e-4)


def test_balanced_does_not_vanish_for_a_small_subject_but_the_papers_form_does():
    mask = torch.zeros(1, 8, 8)
    mask[:, 2:4, 2:4] = 1
    assert mask_regularisation([maps_on(mask)], mask).item() == pytest.approx(-1, abs=1e-4)
    assert mask_regularisation([maps_on(mask)], mask, "paper").item() == pytest.approx(-4 / 64, abs=1e-5)


@pytest.mark.parametrize("form", ["balanced", "paper"])
def test_its_gradient_pulls_attention_onto_the_subject(form):
    mask = square_mask()
    attention = torch.full((2, 2, 64, 2), 0.1, requires_grad=True)
    mask_regularisation([attention], mask, form).backward()
    on = mask.flatten(1)[:, None, :, None].expand_as(attention) == 1
    assert bool((attention.grad[on] < 0).all()) and bool((attention.grad[~on] > 0).all())


def test_an_unknown_form_is_refused():
    with pytest.raises(ValueError, match="'elite'"):
        mask_regularisation([torch.rand(1, 1, 4, 1)], torch.ones(1, 2, 2), "elite")  # type: ignore[arg-type]
