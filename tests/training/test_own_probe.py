"""A probe from nothing but a checkpoint of Stable Diffusion 1.5's layout: drawn, cached, trained, calibrated, exported."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch

from hybridbooth_core.bases.autoencoder import load_autoencoder
from hybridbooth_core.bases.sd15 import StableDiffusion15, load_model
from hybridbooth_core.data.cache import FeatureCache
from hybridbooth_core.data.shards import CLIP, DINO, LATENTS, read_index
from hybridbooth_core.data.vocabulary import Nouns, Vocabulary
from hybridbooth_core.probe.probe import Probe
from hybridbooth_core.training import own_probe
from hybridbooth_core.training.config import LogConfig, ProbeShape
from hybridbooth_core.training.own_probe import RUN, SHARDS, Standards, draw_shards, own_config, train_on_drawings
from hybridbooth_core.training.presets import preset

WORDS = Vocabulary(
    (Nouns(("cat", "toy"), (("red", "blue"),)),), (("a photo of", "on red background"), ("a photo of a", "on blue background"))
)


@pytest.fixture
def drawing(sd15, monkeypatch):
    """Four subjects in two scenes; what a model of random weights draws passes no filter, so there are none."""
    monkeypatch.setattr(own_probe, "Standards", lambda size: Standards(size, area=(0.001, 0.999), max_blur=1))
    made = StableDiffusion15.drawing(load_model(sd15), 4, 2, WORDS)
    made.settings = replace(made.settings, steps=2, batch=2)
    return made


@pytest.mark.slow
def test_a_probe_from_a_checkpoint(drawing, readers, sd15, tmp_path):
    work, out, seen = tmp_path / "work", tmp_path / "own.safetensors", []
    config = own_config(
        preset("sd15-consumer"), work, steps=3, seed=2, model=str(sd15), dino="S", dtype="float32", device="cpu",
        probe=ProbeShape("resampler", sizes={"layers": 1, "heads": 4}), batch=4, micro_batch=2,
    )  # fmt: skip
    config = replace(config, data=replace(config.data, interleave=1), log=replace(LogConfig(), validation_samples=4, save_every=2))
    draw_shards(drawing, work, FeatureCache(readers, load_autoencoder(sd15, "cpu"), 0.2), seen.append)
    index = read_index(work / SHARDS)
    assert index.samples == 8 and len(seen) == 8 and all(name in index.config["features"] for name in (CLIP, DINO, LATENTS))
    frozen = {name: tensor.clone() for name, tensor in drawing.model.unet.state_dict().items()}
    prepare = partial(StableDiffusion15.prepare_training, device=torch.device("cpu"), model=drawing.model)
    steps = []

    def stop(step):
        steps.append(step.done)
        if step.done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_on_drawings(config, prepare, out, stop)
    assert not out.exists() and [path.name for path in (work / RUN).glob("*.ckpt")] == ["step-00000002.ckpt"]
    train_on_drawings(config, prepare, out, lambda step: steps.append(step.done))
    assert steps == [1, 2, 3], "it goes on from the checkpoint"
    probe = Probe.load(out)
    assert probe.config.width == 32 and len(probe.config.gradient_norms) == 11 and isinstance(probe.config.weak, bool)
    assert "8 images" in probe.config.trained_on and "3 of 3 steps" in probe.config.trained_on
    assert all(torch.equal(tensor, frozen[name]) for name, tensor in drawing.model.unet.state_dict().items())


def test_a_place_that_cannot_be_made_is_said(drawing, tmp_path, refuses):
    (tmp_path / "file").write_text("")
    assert "cannot be created" in refuses(draw_shards, drawing, tmp_path / "file" / "work")
