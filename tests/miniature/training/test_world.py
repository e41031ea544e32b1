"""Base and probe, a few steps each, and the whole world from nothing: files, manifest, resuming."""

from __future__ import annotations

import json
import math
import shutil
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch

from hybridbooth_core.miniature import bundle
from hybridbooth_core.miniature.gates import measure_gates
from hybridbooth_core.miniature.nets import Judge
from hybridbooth_core.miniature.training import make
from hybridbooth_core.miniature.training.images import references
from hybridbooth_core.miniature.training.loop import Schedule
from hybridbooth_core.miniature.training.probe import class_embeddings, miniature_probe
from hybridbooth_core.miniature.world import KINDS
from hybridbooth_core.models.ldm_layout import to_ldm_layout
from hybridbooth_core.models.seeds import stage_generator
from hybridbooth_core.training.config import ProbeShape

pytest.importorskip("diffusers")
pytest.importorskip("transformers")
pytestmark = pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch.optim.Muon needs torch 2.9")

FILES = {f"{name}.safetensors" for name in ("autoencoder", "base", "clip_space", "hypernetwork", "instantbooth", "probe", "readers")} | {
    "manifest.json"
}


def test_a_new_probe_starts_from_the_models_own_encoder_half(world, encoders):
    probe = miniature_probe(world, encoders.clip, encoders.dino, ProbeShape("promptnet"), 0)
    state = to_ldm_layout(world.unet.state_dict())
    taken = [key for key in probe.regressor.state_dict() if key in state]
    assert len(taken) > 50 and all(torch.equal(probe.regressor.state_dict()[key], state[key]) for key in taken)
    assert probe.config.embedding_norm == pytest.approx(world.token_table()[2:].norm(dim=1).mean().item(), rel=1e-4)
    assert probe.config.base_fingerprint == world.fingerprint and probe.config.width == world.embedding_width
    assert torch.equal(class_embeddings(world)[2], world.token_embeddings(KINDS[2])[0])


def test_references_are_mostly_cropped_around_their_masks():
    images, masks = torch.rand(64, 64, 64, 3), torch.zeros(64, 64, 64)
    masks[:, 20:40, 20:40] = 1
    before = images.clone()
    crops = references(images, masks, torch.Generator().manual_seed(0))
    whole = torch.tensor([torch.equal(crop, image) for crop, image in zip(crops, images, strict=True)])
    assert crops.shape == images.shape and torch.equal(images, before) and 0.15 < whole.float().mean() < 0.45


def test_stages_draw_different_numbers():
    drawn = {torch.rand((), generator=stage_generator(0, stage, 7)).item() for stage in make.SCHEDULES}
    assert len(drawn) == len(make.SCHEDULES)


def test_schedules_can_be_cut_short_and_are_longer_on_a_gpu():
    assert {s.steps for s in make.schedules("cpu", only_steps=2).values()} == {2}
    cpu, gpu = make.schedules("cpu"), make.schedules("cuda")
    assert cpu == make.SCHEDULES and all(gpu[name].steps > cpu[name].steps for name in cpu)


@contextmanager
def small():
    """Two steps of every stage, on small batches, and gates on two creatures."""
    log = replace(make.CONFIG.log, validation_samples=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(make, "SCHEDULES", {name: Schedule(2, 2, warmup=1) for name in make.SCHEDULES})
        patch.setattr(make, "CONFIG", replace(make.CONFIG, steps=2, batch=2, micro_batch=2, log=log))
        brief = {"steps": 2, "batch": 2, "micro_batch": 2, "log": replace(log, grid_every=0)}
        patch.setattr(make, "CONFIGS", {kind: replace(config, **brief) for kind, config in make.CONFIGS.items()})
        patch.setattr(make, "measure_gates", lambda world, *rest: measure_gates(world, identities=2))
        patch.setattr("hybridbooth_core.miniature.training.base.split_numbers", lambda split, n: torch.arange(2) + 1_000_000)
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The whole world after two steps of every stage, on small batches, with gates on two creatures."""
    with small():
        work, out = tmp_path_factory.mktemp("work"), tmp_path_factory.mktemp("weights")
        first = make.make_world(work, out, seed=3)
        before = {name: (out / name).read_bytes() for name in FILES if name.endswith(".safetensors")}
        make.make_world(work, out, seed=3)  # every stage is complete: loaded, exported again
        after = {name: (out / name).read_bytes() for name in before}
    return first, work, out, before, after


@pytest.mark.slow
def test_the_whole_world_is_made_from_nothing(made):
    manifest, work, out, _, _ = made
    assert {path.name for path in out.iterdir()} == FILES
    assert json.loads((out / "manifest.json").read_text()) == manifest
    assert {path.stem for path in work.glob("*.ckpt")} == set(make.SCHEDULES)
    assert [path.name for path in (work / "probe").glob("*.ckpt")] == ["step-00000002.ckpt"]
    assert set(manifest["bytes"]) == {name for name in FILES if name.endswith(".safetensors")}
    assert manifest["gates_passed"] is False and all(math.isfinite(value) for value in manifest["gates"].values())
    assert "--seed 3" in manifest["made_by"] and str(work) not in json.dumps(manifest)


@pytest.mark.slow
def test_a_second_run_makes_the_same_tensors(made):
    from safetensors.torch import load

    *_, before, after = made
    for name in before:  # metadata may stand in another order, so bytes may differ
        one, two = load(before[name]), load(after[name])
        assert one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one), name


@pytest.mark.slow
def test_all_of_it_is_half_precision_and_within_bounds(made):
    from safetensors.torch import load_file

    out = made[2]
    for name in FILES - {"manifest.json"}:
        assert all(tensor.dtype == torch.float16 for tensor in load_file(out / name).values()), name
    assert sum(made[0]["bytes"].values()) < 24 << 20


@pytest.mark.slow
def test_the_probe_alone_is_made_anew(made, tmp_path):
    out = tmp_path / "world"
    shutil.copytree(made[2], out)
    with small():
        renewed = make.renew_probe(tmp_path / "work", out, seed=4)
    same = {name: (out / name).read_bytes() == (made[2] / name).read_bytes() for name in FILES}
    assert {name for name, equal in same.items() if not equal} == {"probe.safetensors", "manifest.json"}
    assert renewed["stages"].keys() == made[0]["stages"].keys() and renewed["stages"]["probe"]["seed"] == 4


@pytest.mark.slow
def test_the_bundle_loads_what_was_made(made):
    out = made[2]
    world = bundle.load_miniature(out)
    model = world.model
    parts = (model.unet, model.text_encoder, model.coder, world.probe, world.clip, world.dino, world.held_out, world.judge)
    assert all(not part.training and not any(p.requires_grad or p.dtype != torch.float32 for p in part.parameters()) for part in parts)
    assert (world.probe.config.clip, world.probe.config.dino) == (bundle.CLIP_ID, bundle.DINO_ID)
    assert world.probe.config.width == world.model.embedding_width
    assert bundle.manifest(out) == made[0]
    assert not torch.equal(world.dino.projection.weight, world.held_out.projection.weight)


def load_everything(folder):
    for load in (bundle.load_miniature, bundle.load_hypernetwork, bundle.load_adapter):
        load(folder)


@pytest.mark.parametrize("name", sorted(FILES - {"manifest.json"}))
@pytest.mark.parametrize("damage", ["missing", "truncated", "empty", "another", "another size"])
def test_a_damaged_bundle_is_one_sentence(tmp_path, name, damage, refuses):
    from safetensors.torch import load_file, save_file

    for path in bundle.WEIGHTS.iterdir():
        shutil.copyfile(path, tmp_path / path.name)
    path = tmp_path / name
    if damage == "missing":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(path.read_bytes()[:-100])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "another":
        save_file({"x": torch.zeros(1)}, path)
    else:
        tensors = load_file(path)
        key = next(key for key in tensors if key.endswith("weight"))
        save_file(tensors | {key: tensors[key][:1].clone().flatten()}, path)
    refuses(load_everything, tmp_path)


def test_a_folder_that_does_not_exist_is_refused_before_any_step(tmp_path, refuses):
    refuses(make.make_world, tmp_path / "work", tmp_path / "none")
    assert not (tmp_path / "work").exists()


@pytest.mark.slow
def test_the_judge_of_the_world_is_the_one_that_was_trained(made):
    _, work, out, _, _ = made
    state = torch.load(work / "judge.ckpt", weights_only=True)["average"]
    judge = bundle.load_miniature(out).judge
    assert isinstance(judge, Judge)
    for name, tensor in judge.state_dict().items():
        assert torch.equal(tensor, state[f"judge.{name}"].half().float()), name
