"""A base that draws its own training set: the same images however they are read, masks of the subject, and prompts that training uses."""

from __future__ import annotations

import json
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

from hybridbooth_core.cli import main
from hybridbooth_core.data.drawing import Drawing, DrawingSettings, largest_part, subject_mask
from hybridbooth_core.data.prepare import prepare
from hybridbooth_core.data.reader import ShardReader
from hybridbooth_core.data.samples import Standards
from hybridbooth_core.data.vocabulary import Nouns, Vocabulary, describe
from hybridbooth_core.miniature.bundle import load_model
from hybridbooth_core.miniature.captions import describe as describe_creature
from hybridbooth_core.miniature.captions import scene_prompt
from hybridbooth_core.miniature.drawing_words import vocabulary
from hybridbooth_core.miniature.evaluate import EVALUATION_SCENES, join
from hybridbooth_core.miniature.render import render
from hybridbooth_core.miniature.world import creatures, repeat, split_numbers
from hybridbooth_core.training.config import Data
from hybridbooth_core.training.prompt_templates import photo_prompt

WORDS = Vocabulary(
    (Nouns(("cat", "fish"), (("red", "blue"), ("wide",))), Nouns(("robot",))), (("a photo of a", "on snow"), ("a photo of a", "on grass"))
)
QUICK = DrawingSettings(count=3, steps=3, guidance=3.0, batch=2)
LOOSE = Standards(64, area=(0.001, 0.999), max_blur=1)


def png(content: bytes) -> np.ndarray:
    with Image.open(BytesIO(content)) as image:
        return np.asarray(image)


def test_descriptions_are_of_the_vocabulary_and_their_scenes_differ():
    found = [describe(WORDS, torch.Generator().manual_seed(seed), 2) for seed in range(300)]
    assert {one.noun for one in found} == {"cat", "fish", "robot"}
    assert {one.attributes for one in found if one.noun == "cat"} == {"red wide", "blue wide"}, "nothing is left open"
    assert {one.attributes for one in found if one.noun == "robot"} == {""}
    assert all(set(one.scenes) == set(WORDS.scenes) for one in found)
    assert min(sum(one.noun == noun for one in found) for noun in ("cat", "fish", "robot")) > 70, "every noun is equally likely"


def test_a_vocabulary_is_read_from_json(tmp_path, refuses):
    path = tmp_path / "words.json"
    groups = [{"nouns": ["cat"], "attributes": [["red"]]}]
    path.write_text(json.dumps({"groups": groups, "scenes": [["a photo of a", "on snow"], ["a photo of a", ""]]}))
    assert Vocabulary.read(path) == Vocabulary((Nouns(("cat",), (("red",),)),), (("a photo of a", "on snow"), ("a photo of a", "")))
    for bad in ("[", "{}", '{"groups": [], "scenes": [["a", "b"], ["c", "d"]]}', '{"groups": [{"nouns": "cat"}], "scenes": [["a", "b"]]}'):
        path.write_text(bad)
        assert "vocabulary" in refuses(Vocabulary.read, path)
    refuses(Vocabulary.read, tmp_path / "missing.json")


def test_an_image_depends_on_its_number_alone(world):
    forwards, backwards = Drawing(world, WORDS, QUICK), Drawing(world, WORDS, QUICK)
    keys = [(number, view, part) for number in range(3) for view in range(2) for part in range(2)]
    found = {key: forwards.read(*key) for key in keys}
    assert {key: backwards.read(*key) for key in reversed(keys)} == found
    assert len(set(found[number, view, 0] for number in range(3) for view in range(2))) == 6
    assert Drawing(world, WORDS, DrawingSettings(count=3, steps=3, seed=1, batch=2)).read(0, 0, 0) != found[0, 0, 0]


def test_both_scenes_begin_with_the_same_noise(world, monkeypatch):
    starts = []
    monkeypatch.setattr(
        "hybridbooth_core.data.drawing.generate",
        lambda model, prompts, noise, *args, **options: starts.append(noise) or torch.rand(len(noise), 64, 64, 3),
    )
    Drawing(world, WORDS, QUICK).read(0, 0, 0)
    (noise,) = starts
    assert torch.equal(noise[0], noise[1]) and torch.equal(noise[2], noise[3]) and not torch.equal(noise[0], noise[2])


def test_the_words_are_the_texts_own(world):
    """Their embeddings stand in the prompt, so that their columns are known; the context is that of the plain text."""
    drawing = Drawing(world, WORDS, QUICK)
    description = drawing.description(0)
    before, after = description.scenes[0]
    text = " ".join(filter(None, (before, description.attributes, description.noun, after)))
    found, plain = (world.encode_prompts([prompt]).context for prompt in (drawing._prompt(description, description.scenes[0]), [text]))
    torch.testing.assert_close(found, plain)


def test_the_largest_part_remains_without_holes():
    chosen = torch.zeros(12, 12, dtype=torch.bool)
    chosen[1:8, 1:8], chosen[3:5, 3:5], chosen[10:, 10:] = True, False, True
    found = largest_part(chosen)
    assert found.sum() == 49 and found[3, 3] == 1 and found[11, 11] == 0
    assert largest_part(torch.zeros(4, 4, dtype=torch.bool)).sum() == 0


def test_masks_lie_on_the_subject():
    """The shipped model's, against the exact masks of true renders."""
    model = load_model()
    where = join(EVALUATION_SCENES[:4])
    who = repeat(creatures(split_numbers("tune", 3)), 4)
    everywhere = where[torch.arange(4).repeat(3)]
    images, truth = render(who, everywhere)
    overlap = []
    for row in range(len(who)):
        prompt = scene_prompt(everywhere, row, [model.token_embeddings(describe_creature(who, row))])
        found = subject_mask(model, images[row], prompt, seed=row)
        overlap.append(((found * truth[row]).sum() / (found + truth[row]).clamp(0, 1).sum()).item())
    assert np.mean(overlap) > 0.65 and min(overlap) > 0.4, overlap


def test_shards_of_drawings_pair_the_scenes_and_know_their_prompts(world, tmp_path):
    index = prepare(Drawing(world, WORDS, QUICK), tmp_path / "shards", LOOSE, shard_samples=4)
    assert index.samples == 6 and index.counts["with_mask"] == 6 and index.counts["with_class"] == 6
    assert index.config["drawing"]["count"] == 3 and index.config["drawing"]["fingerprint"] == world.fingerprint
    rows = [row for row, _ in zip(ShardReader(tmp_path / "shards", interleave=1).rows(), range(6), strict=False)]
    drawing = Drawing(world, WORDS, QUICK)
    for row in rows:
        scenes = {f"{before} <subject> {after}" for before, after in drawing.description(int(row.target.identity)).scenes}
        assert row.target.identity == row.partner.identity and {row.target.prompt, row.partner.prompt} == scenes


def test_training_uses_the_prompt_of_a_drawing():
    named, plain = Data(neutral=0, condition_drop=0), Data(neutral=1, condition_drop=0)
    image, mask = torch.rand(8, 8, 3), torch.ones(8, 8)
    generator = torch.Generator().manual_seed(0)
    template, drawn = photo_prompt(named, generator, image, mask, "a photo of a <subject> on snow")
    assert template == ("a photo of a", "on snow") and torch.equal(drawn, image), "its background is not painted over"
    assert photo_prompt(plain, generator, image, mask, "a photo of a <subject> on snow")[0][1] == ""
    assert "background" in photo_prompt(named, generator, image, mask, None)[0][1]


def test_an_interrupted_run_continues_to_the_same_shards(world, tmp_path):
    class Stopped(Exception):
        pass

    def stop(counts) -> None:
        if counts["read"] == 5:
            raise Stopped

    prepare(Drawing(world, WORDS, QUICK), tmp_path / "whole", LOOSE, shard_samples=2)
    with pytest.raises(Stopped):
        prepare(Drawing(world, WORDS, QUICK), tmp_path / "begun", LOOSE, shard_samples=2, on_event=stop)
    prepare(Drawing(world, WORDS, QUICK), tmp_path / "begun", LOOSE, shard_samples=2)
    names = sorted(path.name for path in (tmp_path / "whole").glob("*.tar"))
    assert len(names) == 3 and all((tmp_path / "whole" / n).read_bytes() == (tmp_path / "begun" / n).read_bytes() for n in names)


def test_the_bases_vocabularies_fit_them(world):
    from hybridbooth_core.bases.sd15_words import vocabulary as sd15

    for seed in range(50):
        description = describe(vocabulary(), torch.Generator().manual_seed(seed), 2)
        for before, after in description.scenes:
            world.tokenizer.encode(f"{before} {description.attributes} {description.noun} {after}")
    nouns = [noun for group in sd15().groups for noun in group.nouns]
    assert len(nouns) > 90 and len(set(nouns)) == len(nouns) and len(sd15().scenes) > 60


def test_the_command_draws_says_how_long_it_takes_and_refuses(tmp_path, capsys):
    out = str(tmp_path / "shards")
    drawn = ["prepare", "--draw", "2", "--model", "miniature", "--out", out, "--device", "cpu", "--area", "0.01", "0.9", "--max-blur", "1"]
    assert main([*drawn, "--dry-run"]) == 0
    assert "4 images take about" in capsys.readouterr().out and not (tmp_path / "shards").exists()
    assert main(drawn) == 0 and (tmp_path / "shards" / "index.json").exists()
    for wrong in (["prepare", "--out", out], ["prepare", str(tmp_path), "--draw", "2", "--model", "miniature", "--out", out],
                  ["prepare", "--draw", "2", "--out", out], ["prepare", str(tmp_path), "--dry-run", "--out", out],
                  ["prepare", "--draw", "0", "--model", "miniature", "--out", out]):  # fmt: skip
        assert main(wrong) != 0
        assert "--draw" in capsys.readouterr().err or wrong[2] == "0"
