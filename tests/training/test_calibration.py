"""What a probe's file says of itself after a training: which gradients are usual, and whether many steps help even its own subjects."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from hybridbooth_core.data.examples import Example
from hybridbooth_core.data.prepare import prepare
from hybridbooth_core.errors import UserError
from hybridbooth_core.miniature.bundle import load_miniature
from hybridbooth_core.miniature.captions import scene_prompt
from hybridbooth_core.miniature.evaluate import reference_scene
from hybridbooth_core.miniature.training.probe import CONFIG, creature_subjects, miniature_context, miniature_probe
from hybridbooth_core.miniature.world import creatures, split_numbers
from hybridbooth_core.refine.config import FAR_STEPS, NEAR_STEPS
from hybridbooth_core.training import sample_grids as grids
from hybridbooth_core.training.calibration import calibrated, free_gains, is_weak
from hybridbooth_core.training.sample_grids import shard_content

from ..data.test_drawing import LOOSE, QUICK, WORDS, Drawing


@pytest.mark.parametrize(
    ("gains", "weak"),
    [([0.1, 0.2, 0.15], True), ([-0.1, -0.2], False), ([0.1, -0.11], False), ([0.3, -0.09], True), ([0.5], False), ([], False)],
)
def test_a_probe_is_weak_if_its_own_subjects_gain(gains, weak):
    assert is_weak(torch.tensor(gains)) is weak


def test_the_gain_is_measured_on_the_other_photo(world, monkeypatch):
    """With its caption, after ten tied and 25 free steps from the probe's prediction."""
    asked, judged = [], []

    class Made:
        def __init__(self, steps: int):
            self.embeddings = torch.full((5, 96), float(steps))

    def fake(model, ref, noun, config, probe, features):
        asked.append((config.steps, config.anchor, ref))
        return Made(config.steps)

    class Judge:
        def __init__(self, model, ref, config):
            self.ref, self.caption = ref, config.caption

        def validate(self, embeddings):
            judged.append((self.ref, self.caption))
            return 10.0 / embeddings[0, 0].item()

    monkeypatch.setattr("hybridbooth_core.training.calibration.refine", fake)
    monkeypatch.setattr("hybridbooth_core.training.calibration.Task", Judge)
    shipped = load_miniature()
    context = miniature_context(CONFIG, world, shipped.clip, shipped.dino)
    (subject,) = creature_subjects(context, creatures(split_numbers("tune", 1)))
    assert subject.other is not None and not torch.equal(subject.other.images, subject.ref.images) and "<subject>" in subject.caption
    assert free_gains(context, shipped.probe, [subject]).tolist() == [10 / NEAR_STEPS - 10 / FAR_STEPS]
    assert asked == [(NEAR_STEPS, 1.0, subject.ref), (FAR_STEPS, 0.0, subject.ref)]
    assert judged == [(subject.other, subject.caption)] * 2


def test_the_other_photo_of_a_creature_is_another_scene(world):
    shipped = load_miniature()
    context = miniature_context(CONFIG, world, shipped.clip, shipped.dino)
    who = creatures(split_numbers("tune", 12))
    subjects = creature_subjects(context, who)
    usual = [scene_prompt(reference_scene(who, row), 0, ["<subject>"]) for row in range(len(who))]
    said = [
        (subject.caption.replace("sketch", "photo"), " ".join(map(str, prompt))) for subject, prompt in zip(subjects, usual, strict=True)
    ]
    same = [other.split(" at ")[0] == own.strip() for other, own in said]
    assert sum(same) <= 2, "of a seed that differs in its high bits alone it would be the same"


def test_drawings_of_one_subject_are_photos_of_each_other(world, tmp_path):
    prepare(Drawing(world, WORDS, QUICK), tmp_path / "shards", LOOSE, shard_samples=6)
    shipped = load_miniature()
    config = replace(CONFIG, data=replace(CONFIG.data, shards=tmp_path / "shards", interleave=1))
    content = shard_content(config, miniature_context(config, world, shipped.clip, shipped.dino), 3)
    for subject in content.subjects:
        assert subject.other is not None and not torch.equal(subject.other.images, subject.ref.images)
        assert subject.caption.startswith("a photo of a <subject> on")


def test_a_training_is_not_lost_by_a_measurement_that_fails(world, monkeypatch, caplog):
    shipped = load_miniature()
    context = miniature_context(CONFIG, world, shipped.clip, shipped.dino)
    subjects = creature_subjects(context, creatures(split_numbers("tune", 1)))

    def fails(*_):
        raise UserError("memory does not suffice")

    monkeypatch.setattr("hybridbooth_core.training.calibration.free_gains", fails)
    before = shipped.probe.config
    assert calibrated(context, shipped.probe, subjects).config == before and "memory does not suffice" in caplog.text
    assert calibrated(context, shipped.probe, []).config == before and "no subject" in caplog.text


@pytest.mark.parametrize("prompt", ["a cat on snow", "<subject> beside <subject>", None, "a photo of\n<subject> on\nsnow"])
def test_a_prompt_of_other_shards_is_a_caption_only_if_it_names_the_subject_once(prompt):
    image = torch.rand(64, 64, 3)
    one, other = (
        Example(key, image, None, *[torch.zeros(1, 2)] * 2, *[torch.zeros(1, 8, 8)] * 2, True, "cat", "a", prompt) for key in "12"
    )
    context = SimpleNamespace(clip=None, model=SimpleNamespace(device=torch.device("cpu")))
    found = grids._subject(SimpleNamespace(target=one, partner=other), context)  # type: ignore[arg-type]
    assert found.caption == ("a photo of <subject> on snow" if prompt and "\n" in prompt else "") and found.other is not None


@pytest.mark.slow
def test_the_shipped_probe_is_strong_and_an_untrained_one_is_weak():
    m = load_miniature()
    context = miniature_context(CONFIG, m.model, m.clip, m.dino)
    subjects = creature_subjects(context, creatures(split_numbers("tune", 10)))
    untrained = miniature_probe(m.model, m.clip, m.dino, CONFIG.probe, 0).eval().requires_grad_(False)
    before = m.probe.config
    try:
        assert not calibrated(context, m.probe, subjects).config.weak and len(m.probe.config.gradient_norms) == 11
    finally:
        m.probe.config = before
    assert calibrated(context, untrained, subjects).config.weak
