"""DDIM against diffusers' scheduler, guidance against its formula, and seeded noise."""

from __future__ import annotations

import pytest
import torch

from hybridbooth_core.models.sampling import ddim_step, ddim_times, generate, initial_noise


def scheduler(prediction: str = "v_prediction"):
    diffusers = pytest.importorskip("diffusers")
    return diffusers.DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type=prediction, clip_sample=False,
        set_alpha_to_one=True, timestep_spacing="trailing",
    )  # fmt: skip


@pytest.mark.parametrize("steps", [1, 2, 7, 15, 50, 999, 1000])
def test_times_decrease_evenly_from_the_noisiest(steps):
    times = ddim_times(1000, steps)
    gaps = -times.diff()
    assert len(times) == steps and times.dtype == torch.int64 and int(times[0]) == 999 and int(times[-1]) >= 0
    assert bool((gaps > 0).all()) and (steps < 3 or int(gaps.max() - gaps.min()) <= 1)


@pytest.mark.parametrize("steps", [4, 15, 50])
def test_times_are_diffusers_trailing_ones_up_to_rounding(steps):
    reference = scheduler()
    reference.set_timesteps(steps)
    assert (ddim_times(1000, steps) - reference.timesteps).abs().max() <= 1


@pytest.mark.parametrize("steps", [0, -1, 1001])
def test_an_invalid_number_of_steps_is_refused(steps):
    with pytest.raises(ValueError, match="1 to 1000"):
        ddim_times(1000, steps)


@pytest.mark.parametrize(("now", "steps"), [(999, 9), (555, 9), (111, 20), (20, 20)])
def test_a_step_agrees_with_diffusers(world, now, steps):
    """Including the last one, to clean latents."""
    reference = scheduler()
    reference.set_timesteps(steps)
    noisy, velocity = torch.randn(2, 16, 8, 8), torch.randn(2, 16, 8, 8)
    after = now - 1000 // steps
    noise = world.schedule.noise_from_output(velocity, noisy, torch.tensor([now, now]))
    found = ddim_step(world, noisy, noise, now, after)
    torch.testing.assert_close(found, reference.step(velocity, now, noisy).prev_sample, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_a_whole_run_agrees_with_diffusers(world, guidance):
    """Nine steps, spaced by 111 in the scheduler too; it ends a step later, so its estimate of the image is compared."""
    reference = scheduler()
    reference.set_timesteps(9)
    prompts, negative = [["a photo of a cat on snow"], ["a sketch of a fish"]], ["a photo of a red robot"]
    start = torch.randn(2, 16, 8, 8)
    x = start
    with torch.no_grad():
        contexts = [world.encode_prompts([prompt]).context for prompt in (*prompts, negative)]
        for t in range(999, 0, -111):
            times = torch.full((2,), t)
            conditional = world.unet(x, times, torch.cat(contexts[:2])).sample
            unconditional = world.unet(x, times, contexts[2].expand(2, -1, -1)).sample
            result = reference.step(unconditional + guidance * (conditional - unconditional), t, x)
            x = result.prev_sample
        expected = world.decode(result.pred_original_sample)
    found = generate(world, prompts, start, steps=9, guidance=guidance, negative=negative)
    torch.testing.assert_close(found, expected, atol=2e-3, rtol=0)
    assert found.std() > 0.01


def test_images_follow_their_prompts_and_noise_row_by_row(world):
    noise = initial_noise(2, (16, 8, 8), 1)
    prompts = [["a photo of a cat"], ["a sketch of a blue fish at night"]]
    both = generate(world, prompts, noise, steps=3)
    assert both.shape == (2, 64, 64, 3) and both.min() >= 0 and both.max() <= 1
    alone = generate(world, prompts[1:], noise[1:], steps=3)
    torch.testing.assert_close(both[1:], alone, atol=1e-4, rtol=0)
    turned = generate(world, prompts[::-1], noise, steps=3)
    assert not torch.allclose(both, turned, atol=1e-3)


def test_on_step_counts_every_step_and_may_stop(world):
    seen = []
    generate(world, [["a cat"]], initial_noise(1, (16, 8, 8), 0), steps=3, on_step=lambda done, of: seen.append((done, of)))
    assert seen == [(1, 3), (2, 3), (3, 3)]

    def stop(done, of):
        raise InterruptedError

    with pytest.raises(InterruptedError):
        generate(world, [["a cat"]], initial_noise(1, (16, 8, 8), 0), steps=3, on_step=stop)


def test_no_gradient_is_kept(world):
    embeddings = torch.randn(5, 96, requires_grad=True)
    assert not generate(world, [["a photo of", embeddings]], initial_noise(1, (16, 8, 8), 0), steps=1).requires_grad


def test_noise_of_a_seed_does_not_depend_on_the_batch_size():
    four, two = initial_noise(4, (16, 8, 8), 7), initial_noise(2, (16, 8, 8), 7)
    assert torch.equal(four[:2], two)
    rows = torch.cat([four, initial_noise(4, (16, 8, 8), 8)]).flatten(1)
    assert len({tuple(row[:4].tolist()) for row in rows}) == 8
    assert abs(rows.mean()) < 0.02 and abs(rows.std() - 1) < 0.02


@pytest.mark.parametrize("seed", [0, -1, 2**32, 2**63, 2**64 - 1])
def test_every_seed_of_the_host_is_accepted(seed):
    assert torch.equal(initial_noise(1, (4, 2, 2), seed), initial_noise(1, (4, 2, 2), seed))


@pytest.mark.parametrize("delay", [0.25, 0.5, 1.0])
def test_early_prompts_are_used_for_the_first_steps(world, delay):
    """Against a loop written out: the early prompt's steps, then the others'."""
    prompt, early, start = ["a photo of a cat on snow"], ["a photo of a fish"], torch.randn(1, 16, 8, 8)
    found = generate(world, [prompt], start, 4, 2.0, early=[early], delay=delay)
    x, times = start, [*ddim_times(1000, 4).tolist(), -1]
    with torch.no_grad():
        for index in range(4):
            context = world.encode_prompts([early if index < 4 * delay else prompt]).context
            t = torch.tensor([times[index]])
            conditional, unconditional = (world.predict_noise(x, t, c) for c in (context, world.encode_prompts([[]]).context))
            x = ddim_step(world, x, unconditional + 2.0 * (conditional - unconditional), times[index], times[index + 1])
        torch.testing.assert_close(found, world.decode(x), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("given", [{"delay": 0.5}, {"early": [["a cat"]]}, {"early": [["a cat"]] * 2, "delay": 0.5}, {"delay": -0.5},
                                   {"early": [["a cat"]], "delay": 1.5}])  # fmt: skip
def test_delay_and_early_prompts_must_come_together(world, given):
    with pytest.raises(ValueError, match="early prompts"):
        generate(world, [["a cat"]], torch.randn(1, 16, 8, 8), 1, **given)
