"""From a configuration to a training that can begin."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file, save_file

from hybridbooth_core.bases.autoencoder import load_autoencoder
from hybridbooth_core.bases.training import training_bases
from hybridbooth_core.data.prepare import prepare
from hybridbooth_core.data.samples import Standards
from hybridbooth_core.data.shards import Index, Shard, read_index
from hybridbooth_core.encoders.catalogue import CLIP_L, DINOV2_S
from hybridbooth_core.miniature.training.source import MiniatureSource
from hybridbooth_core.models.ldm_layout import to_ldm_layout
from hybridbooth_core.training import setup
from hybridbooth_core.training.config import Data, ProbeShape, TrainConfig
from hybridbooth_core.training.setup import provenance

CPU = torch.device("cpu")
prepare_training = training_bases().prepare
PROMPTNET = ProbeShape("promptnet", num_tokens=3, sizes={"pooled": 8})


@pytest.fixture
def with_encoders(monkeypatch, readers):
    """As if the encoders' files (1.8 GB) lay in the folders that are given."""
    asked = []
    monkeypatch.setattr(setup, "find_encoders", lambda *arguments: asked.append(arguments) or readers)
    return asked


@pytest.fixture(scope="module")
def pipeline(sd15):
    return StableDiffusionPipeline.from_pretrained(sd15, local_files_only=True, safety_checker=None)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_promptnet_starts_from_the_denoiser_as_it_is_stored(dtype, configured, pipeline):
    context, probe, callbacks = prepare_training(configured(probe=PROMPTNET, dtype=dtype), CPU)
    own = probe.regressor.state_dict()
    taken = [key for key in own if key.split(".")[0] in ("time_embed", "input_blocks", "middle_block")]
    stored = to_ldm_layout(pipeline.unet.state_dict())
    assert len(taken) > 100 and all(torch.equal(own[key], stored[key]) for key in taken)
    assert {p.dtype for p in probe.parameters()} == {torch.float32}
    assert {p.dtype for p in context.model.unet.parameters()} == {getattr(torch, dtype)}
    assert {p.dtype for p in context.model.text_encoder.parameters()} == {torch.float32}
    frozen = [*context.model.unet.parameters(), *context.model.text_encoder.parameters()]
    assert not any(parameter.requires_grad for parameter in frozen)
    assert (callbacks.check, callbacks.grid) == (None, None)
    sizes = {"channels": 32, "multipliers": [1, 1, 2, 2], "depth": 2, "heads": 8, "attention_levels": 3, "latent_channels": 4, "pooled": 8}
    assert probe.config.sizes == sizes


def test_the_probe_says_what_it_is_for_and_what_it_has_seen(configured, shards, pipeline):
    config = configured()
    context, probe, _ = prepare_training(config, CPU)
    told = probe.config
    assert (told.width, told.num_tokens, told.regressor) == (32, 3, "resampler")
    assert (told.clip, told.clip_width, told.dino, told.dino_width) == (CLIP_L.id, 1024, DINOV2_S.id, 384)
    assert (told.family, told.base_model, told.base_fingerprint) == ("stable-diffusion-v1", "tiny-sd15", context.model.fingerprint)
    embeddings = pipeline.text_encoder.get_input_embeddings().weight[:-2]  # without start and end, as in CLIP's own table
    assert told.embedding_norm == pytest.approx(sum(row.norm().item() for row in embeddings) / len(embeddings), abs=1e-6)
    assert told.licence == "CC-BY-4.0 (8), unknown (4)"
    assert told.trained_on.startswith("12 images (shards ") and str(shards.cached) not in told.trained_on
    assert context.provenance == {"trained_on": told.trained_on, "licence": told.licence}
    again = prepare_training(config, CPU)[1].state_dict()
    assert all(torch.equal(again[key], tensor) for key, tensor in probe.state_dict().items())
    other = prepare_training(replace(config, seed=1), CPU)[1].state_dict()
    assert any(not torch.equal(other[key], tensor) for key, tensor in probe.state_dict().items())


def test_with_cached_features_neither_encoders_nor_autoencoder_are_there(configured, with_encoders):
    config = configured()
    context, probe, _ = prepare_training(config, CPU)
    assert not with_encoders and context.clip is None and context.dino is None
    batch = context.source.held_out(2)[0]
    inputs = context.inputs(probe, batch)
    assert probe(inputs.features, inputs.nouns).shape == (2, 3, 32)
    with pytest.raises(ValueError, match="no autoencoder"):
        context.model.encode_image(torch.rand(1, 64, 64, 3))
    drawing = prepare_training(replace(config, log=replace(config.log, grid_every=5)), CPU)[0]
    assert drawing.model.decode(torch.randn(1, 4, 8, 8)).shape == (1, 64, 64, 3)


def test_without_them_images_go_through_the_networks_that_were_named(configured, shards, with_encoders, readers, sd15, tmp_path):
    config = configured(data=Data(shards=shards.plain, interleave=2, neutral=1), probe=PROMPTNET, encoders=(tmp_path,))
    context, probe, _ = prepare_training(config, CPU)
    assert with_encoders == [((tmp_path,), "S", CPU)]
    batch = context.source.held_out(3)[0]
    inputs = context.inputs(probe, batch)
    assert torch.equal(inputs.features.clip, readers[0].network(batch.clip))
    assert torch.equal(inputs.features.dino, readers[1].network(batch.dino))
    vae = load_autoencoder(sd15, "cpu")
    torch.testing.assert_close(inputs.features.latents, vae(batch.reference))
    torch.testing.assert_close(inputs.latents, vae(batch.target))


def test_the_autoencoder_goes_where_nothing_needs_it(configured, shards, with_encoders, tmp_path):
    config = configured(data=Data(shards=shards.latents, interleave=2, neutral=1), encoders=(tmp_path,))
    context, probe, _ = prepare_training(config, CPU)  # a resampler, which reads no latents, and targets that are cached
    assert isinstance(context.model.coder, setup.NoAutoencoder)
    batch = context.source.held_out(2)[0]
    assert context.inputs(probe, batch).latents.shape == (2, 4, 8, 8)


def test_the_miniature_is_a_training_of_its_own():
    config = TrainConfig(data=Data(), probe=ProbeShape("resampler"), micro_batch=2, batch=2)
    context, probe, callbacks = prepare_training(config, CPU)
    assert isinstance(context.source, MiniatureSource) and callbacks.check is not None and callbacks.grid is None
    batch = context.source.held_out(2)[0]
    inputs = context.inputs(probe, batch)
    assert probe(inputs.features, inputs.nouns).shape == (2, 5, context.model.embedding_width)


def test_the_miniature_is_for_the_cpu(refuses):
    assert "--device cpu" in refuses(prepare_training, TrainConfig(), torch.device("cuda"))


def test_frequent_licences_are_listed_and_the_others_counted():
    shards = (Shard("shard-000000.tar", 100, 10, "a" * 64),)

    def told(licences):
        return provenance(Index({}, {"licences": licences}, shards))["licence"]

    assert told({"MIT": 30, "CC0": 70}) == "CC0 (70), MIT (30)"
    assert told({"MIT": 30}) == "unknown (70), MIT (30)"
    assert provenance(Index({}, {}, shards))["licence"] == "unknown (100)"  # as earlier versions prepared them
    assert told({f"L{n}": 10 for n in range(10)}).endswith("L7 (10), 2 others (20)")
    other = (Shard("shard-000000.tar", 100, 10, "b" * 64),)
    assert provenance(Index({}, {}, shards))["trained_on"] != provenance(Index({}, {}, other))["trained_on"]


@pytest.fixture
def copy(sd15, tmp_path):
    """A copy of the model, to be changed."""
    return shutil.copytree(sd15, tmp_path / "copy")


def edited(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_an_invalid_model_is_one_sentence(configured, copy, tmp_path, refuses):
    def said(base):
        return refuses(prepare_training, configured(model=str(base)), CPU)

    assert "found no" in said(tmp_path / "nowhere")
    assert "model_index.json" in said(tmp_path)
    for family in ("StableDiffusionXLPipeline", "StableDiffusionInpaintPipeline"):
        edited(copy / "model_index.json", _class_name=family)
        assert family in said(copy)
    edited(copy / "model_index.json", _class_name="StableDiffusionPipeline")
    weights = next((copy / "unet").glob("*.safetensors"))
    weights.rename(weights.with_suffix(".bin"))
    assert ".safetensors" in said(copy)


def test_shards_that_do_not_fit_are_one_sentence(configured, shards, photos, tmp_path, with_encoders, refuses):
    def said(config):
        return refuses(prepare_training, config, CPU)

    config = configured()
    assert "--data.shards" in said(replace(config, data=replace(config.data, shards=None)))
    assert "has no shards" in said(replace(config, data=replace(config.data, shards=tmp_path)))
    assert "no clip, dino, latents" in said(replace(config, data=replace(config.data, shards=shards.plain)))
    prepare([photos], tmp_path / "small", Standards(size=128))
    large = Data(shards=tmp_path / "small", interleave=2)
    assert "generates 64 pixels, but the images in" in said(replace(config, data=large, encoders=(tmp_path,)))
    assert "--dino" in said(replace(config, dino="L"))
    shutil.copytree(shards.cached, tmp_path / "odd")
    features = read_index(shards.cached).config["features"]
    for name, changes, expected in (
        ("clip", {"width": 768}, "of width 768"),
        ("dino", {"id": "somebody/else"}, "found somebody/else"),
        ("latents", {"fingerprint": "0" * 16}, "another autoencoder"),
    ):
        odd = {**features, name: {**features[name], **changes}}
        edited(tmp_path / "odd" / "index.json", config={**read_index(shards.cached).config, "features": odd})
        assert expected in said(replace(config, data=replace(config.data, shards=tmp_path / "odd")))


def test_encoders_that_are_missing_are_one_sentence(configured, shards, tmp_path, refuses):
    config = configured(data=Data(shards=shards.plain, interleave=2))
    assert "--encoders" in refuses(prepare_training, config, CPU)
    assert "CLIP ViT-L/14 was not found" in refuses(prepare_training, replace(config, encoders=(tmp_path,)), CPU)


@pytest.mark.slow
def test_a_promptnet_that_does_not_fit_the_model_is_one_sentence(configured, copy, photos, with_encoders, tmp_path, refuses):
    def said(config):
        return refuses(prepare_training, config, CPU)

    assert "--probe.sizes do not fit" in said(configured(probe=replace(PROMPTNET, sizes={"latent_channels": 16})))
    assert "--probe.sizes do not fit" in said(configured(probe=replace(PROMPTNET, sizes={"flavour": 1})))
    changed = configured(model=str(copy), probe=PROMPTNET)
    settings, file = copy / "unet" / "config.json", next((copy / "unet").glob("*.safetensors"))
    edited(settings, attention_head_dim=[4, 4, 8, 8])
    assert "equally many heads in all attentions of copy, found [4, 8]" in said(changed)
    edited(settings, attention_head_dim=8, time_cond_proj_dim=8)  # as in models of few steps
    save_file({**load_file(file), "time_embedding.cond_proj.weight": torch.zeros(32, 8)}, file)
    assert "not a Stable Diffusion 1.5" in said(changed)
    prepare_training(replace(changed, probe=configured().probe), CPU)
    shutil.copytree(configured().model, copy, dirs_exist_ok=True)
    edited(settings, sample_size=12)
    assert "generates 96 pixels" in said(changed)
    prepare([photos], tmp_path / "96", Standards(size=96))
    odd = Data(shards=tmp_path / "96", interleave=2)
    assert "cannot halve latents of side 12" in said(replace(changed, data=odd, encoders=(tmp_path,)))
