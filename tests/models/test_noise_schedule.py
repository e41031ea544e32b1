"""The schedule and its conversions against diffusers' schedulers, and the identities between them."""

from __future__ import annotations

import pytest
import torch

from hybridbooth_core.models.noise_schedule import NoiseSchedule

TIMES = torch.tensor([0, 1, 250, 500, 750, 998, 999])


@pytest.fixture
def schedule() -> NoiseSchedule:
    return NoiseSchedule.scaled_linear("v_prediction")


@pytest.fixture
def rows():
    return torch.randn(len(TIMES), 4, 8, 8), torch.randn(len(TIMES), 4, 8, 8)


def ddpm():
    diffusers = pytest.importorskip("diffusers")
    return diffusers.DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", num_train_timesteps=1000)


def test_alphas_are_those_of_stable_diffusion(schedule):
    assert len(schedule) == 1000
    torch.testing.assert_close(schedule.alphas_cumprod, ddpm().alphas_cumprod, atol=1e-6, rtol=1e-5)


def test_add_noise_and_velocity_agree_with_diffusers(schedule, rows):
    latents, noise = rows
    torch.testing.assert_close(schedule.add_noise(latents, noise, TIMES), ddpm().add_noise(latents, noise, TIMES), atol=2e-5, rtol=1e-5)
    torch.testing.assert_close(schedule.velocity(latents, noise, TIMES), ddpm().get_velocity(latents, noise, TIMES), atol=2e-5, rtol=1e-5)


def test_signal_and_noise_share_the_variance(schedule):
    alpha, sigma = schedule.alpha_sigma(TIMES)
    assert alpha.shape == sigma.shape == (len(TIMES), 1, 1, 1)
    torch.testing.assert_close(alpha**2 + sigma**2, torch.ones_like(alpha))


def test_noise_and_image_come_back_from_the_velocity(schedule, rows):
    latents, noise = rows
    noisy = schedule.add_noise(latents, noise, TIMES)
    found = schedule.noise_from_output(schedule.velocity(latents, noise, TIMES), noisy, TIMES)
    torch.testing.assert_close(found, noise, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(schedule.image_from_noise(found, noisy, TIMES), latents, atol=2e-4, rtol=1e-4)
    back = schedule.output_from_noise(found, noisy, TIMES)
    torch.testing.assert_close(back, schedule.velocity(latents, noise, TIMES), atol=2e-4, rtol=1e-4)


def test_an_epsilon_output_is_returned_unchanged(rows):
    output, noisy = rows
    assert NoiseSchedule.scaled_linear("epsilon").noise_from_output(output, noisy, TIMES) is output
    assert NoiseSchedule.scaled_linear("epsilon").output_from_noise(output, noisy, TIMES) is output


def test_loss_weight_turns_an_error_of_the_noise_into_one_of_the_velocity(schedule, rows):
    output, noisy = rows
    other = output + 0.1 * torch.randn_like(output)
    by_noise = (schedule.noise_from_output(output, noisy, TIMES) - schedule.noise_from_output(other, noisy, TIMES)) ** 2
    torch.testing.assert_close(by_noise * schedule.loss_weight(TIMES), (output - other) ** 2, atol=1e-5, rtol=1e-3)
    assert bool((NoiseSchedule.scaled_linear().loss_weight(TIMES) == 1).all())


@pytest.mark.parametrize(
    "alphas",
    [torch.tensor([0.5, 0.6]), torch.tensor([0.9, 0.9]), torch.tensor([1.0, 0.5]), torch.tensor([0.5, 0.0]), torch.rand(2, 2),
     torch.tensor([0.9, float("nan")])],
    ids=["rising", "level", "one", "zero", "two rows", "nan"],
)  # fmt: skip
def test_an_invalid_schedule_is_refused(alphas):
    with pytest.raises(ValueError, match="strictly decreasing"):
        NoiseSchedule(alphas)


def test_an_unknown_prediction_is_refused():
    with pytest.raises(ValueError, match="'x0'"):
        NoiseSchedule(torch.tensor([0.9, 0.5]), "x0")  # type: ignore[arg-type]
