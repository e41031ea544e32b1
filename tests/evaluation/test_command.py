"""`hybridbooth evaluate` from the command line."""

import dataclasses
import json
import shlex

import pytest

pytest.importorskip("diffusers")
pytest.importorskip("timm")
pytest.importorskip("lpips")

from hybridbooth_core.cli import main, parser
from hybridbooth_core.evaluation import untrained


@pytest.fixture
def arguments(model_folder, dataset, tmp_path):
    small = ["--subjects", "1", "--prompts", "1", "--pictures", "2", "--steps", "1", "--device", "cpu"]
    return ["evaluate", "--dataset", str(dataset), "--model", str(model_folder), "--out", str(tmp_path / "out"), *small]


def error_of(capsys, *arguments: str) -> str:
    """Run a command that must fail with exit code 2 and one sentence on stderr."""
    assert main(arguments) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("hybridbooth: ")]
    assert len(lines) == 1
    return lines[0]


def test_a_run_prints_its_metrics_and_a_warning(arguments, encoders, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(untrained, "untrained_encoders", lambda: encoders)
    method = ["--method", "textual_inversion", "--training-steps", "1", "--untrained"]
    assert main([*arguments, *method]) == 0
    printed = capsys.readouterr().out
    assert "dino_vs_all" in printed and "the metrics are meaningless" in printed and "not 30 x 25 x 4" in printed
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert "meaningless" in result["warning"]
    assert main([*arguments, *method]) == 0
    assert json.loads((tmp_path / "out" / "result.json").read_text()) == result


def test_the_recorded_command_is_the_same_run(arguments, encoders, monkeypatch, tmp_path):
    monkeypatch.setattr(untrained, "untrained_encoders", lambda: encoders)
    given = [*arguments, "--untrained"]
    assert main(given) == 0
    command = shlex.split(json.loads((tmp_path / "out" / "result.json").read_text())["command"])
    assert command[0] == "hybridbooth" and vars(parser().parse_args(command[1:])) == vars(parser().parse_args(given))


def test_invalid_options_fail_before_any_work(arguments, capsys, tmp_path, monkeypatch):
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    assert "--download" in error_of(capsys, *arguments)
    assert "found both" in error_of(capsys, *arguments, "--method", "dreambooth", "--artefacts", str(tmp_path))
    assert "expected one of the methods" in error_of(capsys, *arguments, "--method", "magic")
    assert "photos or all" in error_of(capsys, *arguments, "--inputs", "some")
    assert "the subjects" in error_of(capsys, *arguments, "--subjects", "0")
    assert "lacks the encoder" in error_of(capsys, *arguments, "--encoders", str(tmp_path))
    assert not (tmp_path / "out").exists()


def test_a_method_with_a_wrong_probe_is_refused(arguments, encoders, new_probe, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(untrained, "untrained_encoders", lambda: encoders)
    given = [*arguments, "--untrained", "--method", "hybridbooth"]
    assert "--probe" in error_of(capsys, *given)
    new_probe().save(tmp_path / "probe.safetensors")
    assert "test/clip@1" in error_of(capsys, *given, "--probe", str(tmp_path / "probe.safetensors"))


@pytest.mark.slow
@pytest.mark.parametrize(("method", "steps"), [("regression", "0"), ("hybridbooth", "1")])
def test_a_method_with_a_probe_of_stable_diffusion(arguments, method, steps, encoders, new_probe, monkeypatch, capsys, tmp_path):
    """Its encoders are found in the hub's cache by what they hold; CLIP is cut down to one layer here (see tests/encoders for the rest)."""
    import huggingface_hub
    import timm
    import torch
    from safetensors.torch import save_file

    from hybridbooth_core.encoders import clip_vit
    from hybridbooth_core.encoders.catalogue import CLIP_L, DINOV2_S

    monkeypatch.setattr(untrained, "untrained_encoders", lambda: encoders)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    config = {"width": 32, "clip": CLIP_L.id, "clip_width": 1024, "dino": DINOV2_S.id, "dino_width": 384}
    new_probe("resampler", **config).save(tmp_path / "probe.safetensors")
    given = [*arguments, "--untrained", "--method", method, "--training-steps", steps, "--probe", str(tmp_path / "probe.safetensors")]
    assert "CLIP ViT-L/14 was not found in" in error_of(capsys, *given) and not (tmp_path / "out").exists()
    snapshot = tmp_path / "cache" / "models--any" / "snapshots" / "x"
    snapshot.mkdir(parents=True)
    save_file({name: torch.zeros(shape) for name, shape in CLIP_L.signature.items()}, snapshot / "clip.safetensors")
    save_file(timm.create_model("vit_small_patch14_dinov2.lvd142m", num_classes=0).state_dict(), snapshot / "dino.safetensors")
    short = dataclasses.replace(clip_vit.CLIP_L14, layers=1)
    monkeypatch.setattr(clip_vit, "load_clip_vision", lambda path, device: clip_vit.new_clip_vision(short).eval())
    assert main(given) == 0
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert result["means"]["dino_vs_all"]["mean"] is not None and method in result["command"]


def test_an_unknown_device_is_refused(arguments, encoders, monkeypatch, capsys):
    monkeypatch.setattr(untrained, "untrained_encoders", lambda: encoders)
    assert "nonsense" in error_of(capsys, *arguments, "--untrained", "--device", "nonsense")
