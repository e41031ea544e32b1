"""Refinement: properties of its result, and that probe and model stay bit-equal."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from hybridbooth_core.encoders.features import Reference
from hybridbooth_core.models.attention import mask_at
from hybridbooth_core.probe.probe import Features
from hybridbooth_core.refine.captions import TEMPLATES
from hybridbooth_core.refine.refine import RefineConfig, Task, refine

QUICK = RefineConfig(mode="residual", steps=3, batch=4, validation=4, step_size=5e-3, seed=1)
WORDS = replace(QUICK, mode="words", step_size=0.1)
KINDS = ["promptnet", "resampler"]


@pytest.fixture
def run(world, subject, new_probe):
    """A function that refines the test creature with a new tiny probe, given a configuration and other arguments."""

    def call(config=QUICK, kind="promptnet", **changes):
        arguments = {"ref": subject.ref, "noun": subject.noun, "probe": new_probe(kind), "features": subject.features} | changes
        return refine(world, config=config, **arguments)

    return call


def prediction(probe, subject) -> torch.Tensor:
    with torch.no_grad():
        return probe(subject.features, subject.noun).mean(0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", ["residual", "words", "paper_literal"])
def test_without_steps_the_result_is_the_probes_prediction(run, kind, mode, new_probe, subject):
    result = run(replace(QUICK, mode=mode, steps=0), kind)
    assert torch.equal(result.embeddings, prediction(new_probe(kind), subject)) and torch.equal(result.start, result.embeddings)
    assert result.losses == [] and len(result.validation) == 1 and result.validated == [0] and result.relative_change == 0


@pytest.mark.parametrize("kind", KINDS)
def test_the_start_is_the_probes_prediction(run, kind, new_probe, subject):
    """With D = 0 the residuals change nothing."""
    assert torch.equal(run(QUICK, kind).start, prediction(new_probe(kind), subject))


@pytest.mark.parametrize("config", [QUICK, WORDS], ids=["residual", "words"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_validation_loss_decreases_and_the_embeddings_change(run, kind, config):
    result = run(replace(config, steps=9), kind)
    assert len(result.losses) == len(result.relative_changes) == 9 and result.validated == [0, 4, 9]
    assert result.validation[0] > min(result.validation[1:])
    assert 1e-3 < result.relative_change < 3
    assert result.embeddings.dtype == torch.float32 and not result.embeddings.requires_grad


def test_the_validation_loss_is_the_denoising_loss_written_out(world, subject):
    """Of v, which this model predicts; sample by sample, with weight 1 on the subject and 0.2 off it, scaled to mean 1."""
    embeddings = torch.randn(5, 96)
    times, noise = Task(world, subject.ref, WORDS).fixed
    total = 0.0
    with torch.no_grad():
        for row in range(4):
            latents = world.encode_image(subject.ref.images[row % 2 : row % 2 + 1])
            t, eps = times[row : row + 1], noise[row : row + 1]
            context = world.encode_prompts([[*TEMPLATES[row // 2], embeddings]]).context
            output = world.network_output(world.schedule.add_noise(latents, eps, t), t, context)
            weight = 0.2 + 0.8 * mask_at(subject.ref.masks[row % 2 : row % 2 + 1], 64).view(1, 1, 8, 8)
            total += ((output - world.schedule.velocity(latents, eps, t)) ** 2 * weight / weight.mean()).mean().item() / 4
    found = refine(world, subject.ref, subject.noun, replace(WORDS, steps=0), start=embeddings).validation
    assert found == [pytest.approx(total, rel=1e-3)]


def test_validation_decides_nothing(run, monkeypatch):
    losses = iter([0.5, 0.8])
    monkeypatch.setattr("hybridbooth_core.refine.task.Task.validate", lambda task, embeddings: next(losses))
    result, whole = run(WORDS), []
    assert result.validation == [0.5, 0.8] and result.relative_change == result.relative_changes[-1] > 1e-3
    monkeypatch.undo()
    run(WORDS, on_step=lambda step: whole.append(step.current()))
    assert torch.equal(result.embeddings, whole[-1]), "the result is the last step's"


def test_a_third_of_the_operations_at_most_is_validation(run, world, monkeypatch):
    """Rows of the model: a row with a gradient costs three forward passes."""
    rows, real = {True: 0, False: 0}, world.predict_noise

    def counted(noisy, *args):
        rows[torch.is_grad_enabled()] += len(noisy)
        return real(noisy, *args)

    monkeypatch.setattr(world, "predict_noise", counted)
    run(RefineConfig())
    assert rows[True] == 40 and rows[False] <= 0.1 * 3 * rows[True]


def test_the_anchor_is_a_pull_to_the_start_in_the_loss(run, world, subject, new_probe):
    """Adam's second step, written out in float64 with the gradient of anchor x |e - start|^2 / (2 norm^2)."""
    config, gradients = replace(WORDS, steps=2, anchor=30.0), []
    task = Task(world, subject.ref, config)
    real = Task.gradient

    def recorded(self, *args):
        found = real(self, *args)
        gradients.append(found[1].double())
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Task, "gradient", recorded)
        result = run(config)
    norm = new_probe("promptnet").config.embedding_norm
    rate, start = 0.1 * norm / 96**0.5, result.start.double()
    first, second = gradients
    one = start - rate * first / (first.abs() + 1e-8)
    pulled = second + 30.0 * (one - start) / norm**2
    mean, square = (0.9 * 0.1 * first + 0.1 * pulled) / (1 - 0.9**2), (0.999 * 0.001 * first**2 + 0.001 * pulled**2) / (1 - 0.999**2)
    torch.testing.assert_close(result.embeddings.double(), one - rate * mean / (square.sqrt() + 1e-8), rtol=1e-3, atol=1e-5)
    assert run(replace(config, anchor=0.0)).relative_change > 1.1 * result.relative_change
    assert task.config.anchor == 30.0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", ["residual", "words", "paper_literal"])
def test_probe_and_model_are_untouched(run, kind, mode, world, new_probe, state_of, subject):
    probe = new_probe(kind).requires_grad_(True)  # like a probe during training: no gradient may remain on it
    parts = (probe, world.unet, world.text_encoder, world.coder)
    before = state_of(*parts)
    features = {name: tensor.clone() for name, tensor in vars(subject.features).items()}
    run(replace(QUICK, mode=mode, steps=2), probe=probe)
    after = state_of(*parts)
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert not any(p.grad is not None for part in parts for p in part.parameters())
    assert not any(module._forward_hooks for part in parts for module in part.modules())
    assert all(torch.equal(tensor, getattr(subject.features, name)) for name, tensor in features.items())


def test_the_anchor_counts_from_a_given_start_and_in_no_other_mode(run, refuses):
    given = {"probe": None, "features": None, "start": torch.randn(5, 96)}
    free, tied = (run(replace(WORDS, steps=4, anchor=anchor), **given).relative_change for anchor in (None, 100.0))
    assert tied < 0.7 * free
    for mode in ("residual", "paper_literal"):
        assert "anchor" in refuses(RefineConfig, mode=mode, anchor=1.0)


@pytest.mark.parametrize("mode", ["residual", "words"])
def test_an_interruption_propagates_and_changes_nothing(run, mode, new_probe, world, state_of):
    probe, seen = new_probe(), []
    before = state_of(probe, world.unet)

    def stop(step):
        seen.append((step.done, step.steps))
        if step.done == 2:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        run(replace(QUICK, mode=mode), probe=probe, on_step=stop)
    assert seen == [(1, 3), (2, 3)]
    after = state_of(probe, world.unet)
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert not any(module._forward_hooks for part in (probe, world.unet, world.text_encoder) for module in part.modules())


def test_on_step_gets_the_loss_and_the_embeddings(run):
    captured = []
    result = run(on_step=captured.append)
    assert [step.loss for step in captured] == result.losses
    changes = [(step.current().cpu() - result.start).norm() / result.start.norm() for step in captured]
    assert [float(change) for change in changes] == pytest.approx(result.relative_changes, rel=1e-4)


def test_the_papers_constants_change_almost_nothing(run):
    literal = run(replace(QUICK, mode="paper_literal", steps=5, step_size=None))
    sensible = run(replace(QUICK, step_size=1e-3, steps=5))
    assert literal.step_size == pytest.approx(2e-7)
    assert (
        0 < literal.relative_changes[-1] < 1e-3 < sensible.relative_changes[-1]
        and 0 <= literal.relative_change < 1e-3 < sensible.relative_change
    )


def test_step_sizes_have_defaults(run, new_probe):
    probe = new_probe(residual_step=3e-4)
    assert run(replace(QUICK, step_size=None, steps=1), probe=probe).step_size == 3e-4
    assert run(replace(WORDS, step_size=None, steps=1), probe=probe).step_size == 0.05


def test_a_step_on_the_embeddings_has_the_step_size(run, subject):
    """Adam's first step changes every entry by its learning rate: a fraction of the mean norm."""
    start = torch.randn(5, 96)
    result = run(replace(WORDS, steps=1, step_size=0.03), probe=None, features=None, start=start)
    moved = (result.embeddings - result.start).norm(dim=1)
    torch.testing.assert_close(moved, torch.full((5,), 0.03 * start.norm(dim=1).mean().item()), atol=1e-4, rtol=1e-2)


def test_embeddings_are_refined_without_a_probe(run):
    start = torch.randn(3, 96)
    before = start.clone()
    result = run(replace(WORDS, steps=4), probe=None, features=None, start=start)
    assert torch.equal(start, before) and torch.equal(result.start, before)
    assert result.embeddings.shape == (3, 96) and result.relative_change > 1e-3 and result.validation[-1] < result.validation[0]


@pytest.mark.parametrize("mode", ["residual", "words", "paper_literal"])
def test_a_mode_without_its_inputs_is_refused(run, mode, refuses):
    config = replace(QUICK, mode=mode)
    refuses(run, config, probe=None)
    refuses(run, config, features=None)
    if mode != "words":
        assert mode in refuses(run, config, probe=None, features=None, start=torch.randn(5, 96))


@pytest.mark.parametrize(
    "bad",
    [{"mode": "dreambooth"}, {"mode": None}, {"steps": -1}, {"steps": 1001}, {"step_size": 0.0}, {"step_size": -1e-5},
     {"step_size": 1.5}, {"step_size": float("nan")}, {"step_size": float("inf")}, {"batch": 0}, {"validation": 0},
     {"times": (0.9, 0.1)}, {"times": (0.5, 0.5)}, {"times": (-0.1, 1.0)}, {"times": (0.0, 1.1)}, {"times": (float("nan"), 1.0)},
     {"background": -0.1}, {"background": 1.1}, {"background": float("nan")}, {"mask_weight": -1.0}, {"mask_weight": float("nan")},
     {"mask_loss": "elite"}, {"anchor": -1.0}, {"anchor": float("nan")}],
    ids=str,
)  # fmt: skip
def test_an_invalid_configuration_is_refused(bad, refuses):
    refuses(RefineConfig, **bad)


class NotFinite:
    """A model whose predicted noise is not finite after `calls` calls."""

    def __init__(self, model, calls: int, value: float = float("nan")):
        self.model, self.calls, self.value = model, calls, value

    def __getattr__(self, name):
        return getattr(self.model, name)

    def predict_noise(self, *args):
        self.calls -= 1
        return self.model.predict_noise(*args) * (self.value if self.calls < 0 else 1.0)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_start_without_finite_loss_is_refused(world, subject, new_probe, value, refuses):
    broken = NotFinite(world, 0, value)
    assert "not finite" in refuses(refine, broken, subject.ref, subject.noun, QUICK, new_probe(), subject.features)


@pytest.mark.parametrize("calls", [1, 2, 3])
@pytest.mark.parametrize("config", [QUICK, WORDS], ids=["residual", "words"])
def test_a_loss_that_becomes_nan_keeps_the_last_finite_step(world, subject, new_probe, calls, config, caplog):
    """The first call validates the start, every further one is a step."""
    result = refine(NotFinite(world, calls), subject.ref, subject.noun, config, new_probe(), subject.features)
    whole = refine(world, subject.ref, subject.noun, replace(config, steps=calls - 1), new_probe(), subject.features)
    assert torch.equal(result.embeddings, whole.embeddings) and len(result.losses) == calls - 1
    assert "not finite" in caplog.text


def test_results_are_seeded(run):
    first, again, other = run(), run(), run(replace(QUICK, seed=2))
    assert torch.equal(first.embeddings, again.embeddings) and first.validation == again.validation and first.losses == again.losses
    assert not torch.equal(first.embeddings, other.embeddings) and first.validation[0] != other.validation[0]


@pytest.mark.parametrize("seed", [-1, 2**63, 2**64 - 1])
def test_every_seed_of_comfyui_is_accepted(run, seed):
    assert math.isfinite(run(replace(QUICK, seed=seed, steps=1)).validation[-1])


def test_it_ignores_the_global_generator_and_the_gradient_mode(run):
    state = torch.get_rng_state()
    expected = run(replace(WORDS, steps=1), probe=None, features=None, start=torch.ones(2, 96))
    with torch.no_grad():
        found = run(replace(WORDS, steps=1), probe=None, features=None, start=torch.ones(2, 96))
    assert torch.equal(found.embeddings, expected.embeddings) and torch.equal(torch.get_rng_state(), state)


def test_inference_tensors_can_be_refined(run, subject):
    with torch.inference_mode():
        ref = Reference(subject.ref.images.clone(), subject.ref.masks.clone())
        features = Features(*(tensor.clone() for tensor in vars(subject.features).values()))
        noun = subject.noun.clone()
    assert torch.equal(run(ref=ref, features=features, noun=noun).embeddings, run().embeddings)


def test_every_reference_image_counts(run, subject):
    images, masks = subject.ref.images, subject.ref.masks
    both = run(ref=subject.ref)
    for row in (0, 1):
        one = run(ref=Reference(images[row : row + 1], masks[row : row + 1]))
        assert not torch.allclose(one.embeddings, both.embeddings, atol=1e-6)
    assert torch.equal(both.start, run(ref=Reference(images[:1], masks[:1])).start)


def test_masks_and_their_weight_matter_and_are_optional(run, subject):
    bare = Reference(subject.ref.images, None)
    results = [run(), run(ref=bare), run(replace(QUICK, background=1.0)), run(replace(QUICK, mask_weight=10.0)),
               run(replace(QUICK, mask_weight=10.0, mask_loss="paper"))]  # fmt: skip
    for i, one in enumerate(results):
        for other in results[:i]:
            assert not torch.allclose(one.embeddings, other.embeddings, atol=1e-6)
    without = run(replace(QUICK, background=1.0, mask_weight=0.0))
    assert torch.equal(without.embeddings, run(replace(QUICK, mask_weight=10.0), ref=bare).embeddings), (
        "without masks, weights do not matter"
    )
