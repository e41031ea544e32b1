"""The protocol on real photos with small models: runs are resumable and reproducible, and metrics come from the files."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("diffusers")
pytest.importorskip("timm")
pytest.importorskip("lpips")

from hybridbooth_core.bases.sd15 import load_model
from hybridbooth_core.evaluation import run as run_module
from hybridbooth_core.evaluation.drawing import DrawingConfig, missing_prompts
from hybridbooth_core.evaluation.making import Maker, MakingConfig
from hybridbooth_core.evaluation.photos import open_photo
from hybridbooth_core.evaluation.protocol import read_dataset
from hybridbooth_core.evaluation.run import evaluate
from hybridbooth_core.models.seeds import prompt_seed

DRAWING = DrawingConfig(images=2, steps=2, guidance=2.0)
SHORT = {"steps": 2, "rate": 0.05}


@pytest.fixture(scope="module")
def model(model_folder):
    return load_model(model_folder)


@pytest.fixture(scope="module")
def run(model, dataset, encoders):
    """A function that runs the protocol on 2 subjects x 2 prompts x 2 images and returns its result."""

    def call(making, out, on_event=None, subjects=2, drawing=DRAWING):
        chosen = read_dataset(dataset, subjects, 2)
        return evaluate(model, dataset, chosen, making, drawing, encoders, out, command="the command", on_event=on_event)

    return call


@pytest.fixture(scope="module")
def inverted(run, tmp_path_factory):
    """An uninterrupted run of textual inversion: its result and folder."""
    out = tmp_path_factory.mktemp("inverted")
    return run(MakingConfig("textual_inversion", **SHORT), out), out


def files(out) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}


def test_a_run_writes_images_subjects_settings_and_result(inverted):
    result, out = inverted
    images = [f"{name}/{prompt}/{k}.png" for name in ("cat", "duck_toy") for prompt in ("00", "01") for k in (0, 1)]
    others = ["cat/cat.safetensors", "duck_toy/duck_toy.safetensors", "result.json", "settings.json"]
    assert sorted(files(out)) == sorted(images + others)
    drawn = [np.asarray(Image.open(out / name)) for name in images]
    assert all(image.shape == (64, 64, 3) and image.std() > 2 for image in drawn)
    assert len({image.tobytes() for image in drawn}) == 8
    assert json.loads((out / "result.json").read_text()) == result


def test_a_result_is_self_describing(inverted):
    result, _ = inverted
    assert "meaningless" in result["warning"] and not result["full_protocol"]
    assert result["size"] == {"subjects": 2, "prompts": 2, "images": 2} and result["command"] == "the command"
    assert result["settings"]["making"]["method"] == "textual_inversion" and result["settings"]["making"]["steps"] == 2
    assert {"vs_all", "vs_input"} <= set(result["variants"]) and result["versions"]["torch"] == torch.__version__
    assert (result["subjects"]["cat"]["class"], result["subjects"]["cat"]["live"], result["subjects"]["duck_toy"]["live"]) == (
        "cat",
        True,
        False,
    )
    figures = {
        "dino_vs_all",
        "dino_vs_input",
        "dino_real",
        "clip_i_b32_vs_all",
        "clip_i_b32_vs_input",
        "clip_i_b32_real",
        "clip_t_b32",
        "diversity",
    }
    assert set(result["means"]) == figures


def test_metrics_are_those_of_the_files(inverted, dataset, encoders):
    """One subject's metrics, pair by pair in float64."""
    result, out = inverted
    drawn = [open_photo(out / "duck_toy" / prompt / f"{k}.png") for prompt in ("00", "01") for k in (0, 1)]
    photos = [open_photo(path) for path in sorted((dataset / "duck_toy").glob("*.jpg"))]
    clip = encoders.clips["b32"]

    def rows(tensor):
        values = tensor.double().numpy()
        return values / np.linalg.norm(values, axis=1, keepdims=True)

    scores = result["subjects"]["duck_toy"]
    for name, encode in (("dino", encoders.dino), ("clip_i_b32", clip)):
        cosines = rows(encode(drawn)) @ rows(encode(photos)).T
        assert scores[f"{name}_vs_all"] == pytest.approx(cosines.mean(), abs=2e-5)
        assert scores[f"{name}_vs_input"] == pytest.approx(cosines[:, 0].mean(), abs=2e-5)
        among = rows(encode(photos)) @ rows(encode(photos)).T
        assert scores[f"{name}_real"] == pytest.approx((among.sum() - 3) / 6, abs=2e-5)
    prompts = rows(clip.texts(["a toy in the jungle", "a toy in the jungle", "a toy in the snow", "a toy in the snow"]))
    assert scores["clip_t_b32"] == pytest.approx((rows(clip(drawn)) * prompts).sum(1).mean(), abs=2e-5)
    tensors = [encoders.lpips.preprocess(image) for image in drawn]
    assert scores["diversity"] == pytest.approx((encoders.lpips(*tensors[:2]) + encoders.lpips(*tensors[2:])) / 2, abs=2e-5)
    both = [result["subjects"][name]["dino_vs_all"] for name in ("cat", "duck_toy")]
    assert result["means"]["dino_vs_all"]["mean"] == pytest.approx(np.mean(both), abs=2e-5)
    assert min(both) - 2e-5 <= result["means"]["dino_vs_all"]["ci95"][0] <= result["means"]["dino_vs_all"]["ci95"][1] <= max(both) + 2e-5


class Killed(Exception):
    pass


@pytest.mark.slow
@pytest.mark.parametrize("events", [1, 3, 4, 9])
def test_killed_and_continued_equals_uninterrupted(inverted, run, tmp_path, events):
    """Killed while training the first subject, after its first prompt, between subjects, while computing metrics ..."""
    result, whole = inverted
    count = 0

    def on_event(what, done, total):
        nonlocal count
        count += 1
        if count == events:
            raise Killed

    with pytest.raises(Killed):
        run(MakingConfig("textual_inversion", **SHORT), tmp_path, on_event)
    assert not (tmp_path / "result.json").exists()
    assert not list(tmp_path.rglob("*.partial"))
    assert run(MakingConfig("textual_inversion", **SHORT), tmp_path) == result
    assert files(tmp_path) == files(whole)


def test_a_deleted_image_is_generated_again_equal_and_alone(inverted, run, tmp_path, monkeypatch):
    result, whole = inverted
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    (tmp_path / "cat" / "01" / "1.png").unlink()
    kept = (tmp_path / "cat" / "01" / "0.png").stat().st_mtime_ns
    drawn = []
    draw = run_module.generate_images

    def noted(model, subject, index, *rest):
        drawn.append((subject.name, index))
        draw(model, subject, index, *rest)

    monkeypatch.setattr(run_module, "generate_images", noted)
    assert run(MakingConfig("textual_inversion", **SHORT), tmp_path) == result
    assert drawn == [("cat", 1)] and files(tmp_path) == files(whole)
    assert (tmp_path / "cat" / "01" / "0.png").stat().st_mtime_ns == kept


@pytest.mark.slow
def test_an_extended_run_equals_a_full_run(inverted, run, tmp_path):
    result, whole = inverted
    run(MakingConfig("textual_inversion", **SHORT), tmp_path, subjects=1)
    assert run(MakingConfig("textual_inversion", **SHORT), tmp_path) == result and files(tmp_path) == files(whole)


def test_a_folder_with_other_settings_is_refused(inverted, run, refuses, tmp_path):
    _, whole = inverted
    message = refuses(run, MakingConfig("textual_inversion", steps=3, rate=0.05), whole)
    assert "making steps was 2, now 3" in message
    assert "drawing images" in refuses(run, MakingConfig("textual_inversion", **SHORT), whole, drawing=DrawingConfig(images=3, steps=2))
    (tmp_path / "settings.json").write_text("[]")
    assert "other settings" in refuses(run, MakingConfig(), tmp_path)
    (tmp_path / "settings.json").write_text("{")
    assert "damaged" in refuses(run, MakingConfig(), tmp_path)


@pytest.mark.parametrize("method", ["dreambooth", "dreambooth_lora", "custom_diffusion"])
def test_methods_that_train_the_denoiser_do_not_change_it(run, model, tmp_path, state_of, method):
    before = state_of(model.unet, model.text_encoder)
    config = MakingConfig(method, steps=1, rate=1e-3, options={"prior_images": 2})
    result = run(config, tmp_path, subjects=1, drawing=DrawingConfig(images=1, steps=1, guidance=1.0))
    assert (tmp_path / "cat" / "cat.safetensors").exists() and result["means"]["diversity"]["mean"] is None
    assert all(torch.equal(value, before[name]) for name, value in state_of(model.unet, model.text_encoder).items())


def test_artefacts_give_the_methods_images_and_must_not_change(inverted, run, refuses, tmp_path):
    result, whole = inverted
    given = tmp_path / "given"
    given.mkdir()
    for name in ("cat", "duck_toy"):
        shutil.copy(whole / name / f"{name}.safetensors", given)
    out = tmp_path / "out"
    again = run(MakingConfig("files", artefacts=given), out)
    assert again["subjects"] == result["subjects"]
    shutil.copy(given / "duck_toy.safetensors", given / "cat.safetensors")
    (out / "cat" / "00" / "0.png").unlink()
    assert "not the file" in refuses(run, MakingConfig("files", artefacts=given), out)
    (given / "cat.safetensors").unlink()
    assert "cannot be read" in refuses(run, MakingConfig("files", artefacts=given), tmp_path / "other")


def test_the_baseline_uses_the_class_noun_on_the_same_noise(run, model, dataset, tmp_path):
    from hybridbooth_core.models.sampling import generate, initial_noise

    run(MakingConfig(), tmp_path, subjects=1)
    assert not list(tmp_path.rglob("*.safetensors"))
    noise = initial_noise(2, (4, 8, 8), prompt_seed(0, "cat", 1))
    expected = generate(model, [["a cat in the snow"]] * 2, noise, 2, 2.0)
    seen = np.asarray(Image.open(tmp_path / "cat" / "01" / "1.png"))
    assert np.abs(seen.astype(int) - (expected[1] * 255).round().numpy()).max() <= 1
    assert len({prompt_seed(0, name, prompt) for name in ("cat", "dog") for prompt in range(25)}) == 50


def test_vs_input_uses_all_input_photos(run, tmp_path):
    result = run(MakingConfig("textual_inversion", **SHORT, inputs=None), tmp_path, subjects=1)
    cat = result["subjects"]["cat"]
    assert cat["dino_vs_input"] == cat["dino_vs_all"]


def test_missing_prompts(dataset, tmp_path):
    (cat,) = read_dataset(dataset, 1, 3)
    assert missing_prompts(tmp_path, cat, 2) == [0, 1, 2]
    (tmp_path / "cat" / "01").mkdir(parents=True)
    for number in range(2):
        (tmp_path / "cat" / "01" / f"{number}.png").touch()
    assert missing_prompts(tmp_path, cat, 2) == [0, 2] and missing_prompts(tmp_path, cat, 3) == [0, 1, 2]


def test_refusals(model, refuses, tmp_path):
    from hybridbooth_core.methods.prior_images import Prior

    assert "class_noun" in refuses(MakingConfig, "photoshop")
    assert "at least 1 input photo" in refuses(MakingConfig, inputs=0)
    assert "--probe" in refuses(Maker, model, MakingConfig("hybridbooth"), Prior(model))
    for changes in ({"images": 0}, {"steps": 0}, {"guidance": 31}, {"guidance": float("nan")}):
        refuses(lambda settings: DrawingConfig(**settings), changes)
    (tmp_path / "broken.png").write_bytes(b"no image")
    assert "cannot be read" in refuses(open_photo, tmp_path / "broken.png")


def test_published_step_counts_are_the_defaults():
    assert MakingConfig("textual_inversion").trained_steps == 3000
    assert MakingConfig("class_noun").trained_steps == MakingConfig("regression").trained_steps == 0
    assert MakingConfig("hybridbooth").trained_steps is None, "each image decides"
