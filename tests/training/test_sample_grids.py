"""Sample grids show the same subjects with the same noise each time, and change nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from hybridbooth_core.bases.training import training_bases
from hybridbooth_core.data.examples import Example
from hybridbooth_core.encoders.features import square_crops
from hybridbooth_core.miniature.training.probe import creature_content
from hybridbooth_core.training import sample_grids as grids
from hybridbooth_core.training.config import Data
from hybridbooth_core.training.sample_grids import grid, shard_content


@pytest.fixture(scope="module", autouse=True)
def _quickly_refined():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grids, "REFINE", replace(grids.REFINE, steps=1, batch=1, validation=1))
        yield


@pytest.fixture(scope="module")
def drawn(small, tmp_path_factory):
    """A configuration, its setting and probe, subjects, the function that draws, and a board."""
    config = replace(small.CONFIG, log=replace(small.CONFIG.log, grid_every=3, grid_subjects=2, grid_steps=2))
    trainer = small.trainer_of(config)
    probe = trainer.averaged()
    content = creature_content(trainer.context, 2)
    draw, path = grid(config, trainer.context, content), tmp_path_factory.mktemp("board") / "step-00000003.png"
    draw(probe, path)
    return config, trainer.context, probe, content.subjects, draw, path


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image, dtype=np.float32) / 255


def cells(path: Path, rows: int = 2) -> np.ndarray:
    """The images of a board of the miniature, [rows, 6, side, side, 3]."""
    page, side, step = pixels(path), grids.SMALL, grids.SMALL + grids.GAP
    gap = grids.WIDE_GAP - grids.GAP
    lefts = [grids.LEFT + column * step + gap * ((column > 0) + (column > 2)) for column in range(6)]
    tops = [grids.TOP + row * step for row in range(rows)]
    return np.stack([[page[top : top + side, left : left + side] for left in lefts] for top in tops])


def test_the_first_column_is_the_reference_and_the_others_are_the_models_images(drawn):
    _, _, _, subjects, _, path = drawn
    shown = cells(path)
    for row, subject in zip(shown, subjects, strict=True):
        mask = Image.fromarray(subject.ref.masks[0].numpy()).resize((grids.SMALL,) * 2)
        given = Image.fromarray((subject.ref.images[0] * 255).byte().numpy()).resize((grids.SMALL,) * 2)
        inside = np.asarray(mask) > 0.99
        inside[1:-1, 1:-1] &= inside[:-2, 1:-1] & inside[2:, 1:-1] & inside[1:-1, :-2] & inside[1:-1, 2:]
        assert np.abs(row[0] - np.asarray(given) / 255)[inside].mean() < 0.05, "the subject keeps its colours"
        assert all(image.std() > 0.02 for image in row)
    assert len({image.tobytes() for row in shown for image in row}) == 12
    assert not (pixels(path) == 1).all(axis=(1, 2))[20:50].all(), "there is a title"


def test_a_grid_is_reproducible_and_changes_nothing(drawn, tmp_path, state_of, monkeypatch):
    _, context, probe, _, draw, path = drawn
    made = grids.generate
    monkeypatch.setattr(grids, "generate", lambda *arguments: (torch.rand(3), made(*arguments))[1])  # some sampler may do so
    before = state_of(probe, context.model.unet, context.model.text_encoder)
    torch.manual_seed(99)
    state = torch.get_rng_state()
    draw(probe, tmp_path / "step-00000003.png")
    assert (tmp_path / "step-00000003.png").read_bytes() == path.read_bytes()
    assert torch.equal(torch.get_rng_state(), state) and torch.is_grad_enabled()
    after = state_of(probe, context.model.unet, context.model.text_encoder)
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert not any(parameter.requires_grad or parameter.grad is not None for parameter in probe.parameters())
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000003.png"]


def test_another_probe_draws_other_images_of_the_same_references(drawn, small, tmp_path):
    config, _, _, _, draw, path = drawn
    draw(small.trainer_of(replace(config, seed=1)).averaged(), tmp_path / "step-00000004.png")
    one, two = cells(path), cells(tmp_path / "step-00000004.png")
    assert (one[:, 0] == two[:, 0]).all() and not any((one[:, column] == two[:, column]).all() for column in range(1, 6))


def test_creatures_of_a_grid_are_held_out(drawn):
    from hybridbooth_core.miniature.evaluate import class_nouns, reference_of
    from hybridbooth_core.miniature.world import creatures, split_numbers

    who = creatures(split_numbers("tune", 2))
    assert [subject.noun for subject in drawn[3]] == class_nouns(who)
    assert all(torch.equal(subject.ref.images, reference_of(who, row).images) for row, subject in enumerate(drawn[3]))


@pytest.mark.parametrize(
    "error", [RuntimeError("CUDA out of memory. Tried to allocate"), MemoryError("no more"), OSError(28, "No space left on device")]
)
def test_a_failed_grid_does_not_stop_the_training(error, drawn, tmp_path, monkeypatch, caplog):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(*(("hybridbooth_core.files.atomic.os.replace", fail) if isinstance(error, OSError) else (grids, "refine", fail)))
    drawn[4](drawn[2], tmp_path / "step-00000005.png")
    assert list(tmp_path.iterdir()) == [] and "no sample grid was written" in caplog.text


def test_a_mistake_in_the_program_is_not_hidden(drawn, tmp_path, monkeypatch):
    monkeypatch.setattr(grids, "generate", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        drawn[4](drawn[2], tmp_path / "step-00000005.png")


def example(identity: str | None, masked: bool) -> Example:
    return Example("", torch.zeros(1, 1, 3), torch.ones(1, 1) if masked else None, None, None, None, None, not masked, None, identity)


def test_masked_subjects_that_differ_come_first():
    examples = [example("a", False), example("a", True), example("b", True), example("b", True), example(None, True), example("c", False)]
    given = [SimpleNamespace(target=one) for one in examples]
    order = [given.index(chosen) for chosen in grids._select(given, 6)]
    assert order == [2, 4, 0, 5, 1, 3]
    assert grids._select(given, 2) == [given[2], given[4]]

    def endless():
        yield from given
        raise AssertionError("enough was found before")

    assert grids._select(endless(), 2) == [given[2], given[4]]


@pytest.mark.parametrize("cached", [True, False], ids=["cached", "pictures"])
def test_subjects_from_shards_have_the_features_of_their_crops(cached, configured, readers, shards, monkeypatch, tmp_path):
    monkeypatch.setattr("hybridbooth_core.training.setup._encoders", lambda config, device: readers)
    data = {} if cached else {"data": Data(shards=shards.plain, interleave=2)}
    config = configured(**data)
    config = replace(config, log=replace(config.log, grid_every=1, grid_subjects=3, grid_steps=1))
    context, probe, _ = training_bases().prepare(config, torch.device("cpu"))
    content = shard_content(config, context, 3)
    subjects = content.subjects
    assert all(subject.ref.masks is not None for subject in subjects) and {subject.noun for subject in subjects} <= {"cat", "toy", "object"}
    for subject in subjects:
        crop = square_crops(subject.ref.images, subject.ref.masks, readers[0].network.size)
        tokens = readers[0].network(crop)
        whole = readers[0].network(square_crops(subject.ref.images, None, readers[0].network.size))
        augmented = subject.features.clip
        assert min((augmented - tokens).abs().max(), (augmented - whole).abs().max() if cached else 9) < 0.01
    grid(config, context, replace(content, subjects=subjects[:1]))(probe.eval().requires_grad_(False), tmp_path / "now.png")
    assert cells(tmp_path / "now.png", 1).std() > 0.05
