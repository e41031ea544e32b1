"""What needs ComfyUI's objects in the hand, not over HTTP: scripts of `inside/`, each run in the host's own Python."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .comfy import Installation

SCRIPTS = Path(__file__).parent / "inside"


def _run(installation: Installation, script: str) -> dict:
    return json.loads(installation.run(SCRIPTS / script).strip().splitlines()[-1])


def test_diffusers_and_comfyui_agree_on_the_same_weights(installation: Installation):
    if not installation.has("diffusers"):
        pytest.skip(f"{installation.python} has no diffusers to compare with; pip install diffusers there")
    for name, differences in _run(installation, "parity.py").items():
        maps = [key for key in differences if key.startswith("map")]
        # two levels: all seven layers; three levels: without the finest's 1 + 2, and the coarsest has only the middle's
        assert len(maps) == {"miniature": 7, "three levels": 4}[name]
        assert differences["columns"] == 0
        assert all(value < 1e-5 for value in differences.values()), f"{name}: {differences}"


def test_what_is_wired_counts_and_stays_as_it_is(installation: Installation):
    found = _run(installation, "wired.py")
    assert found["untouched"] is True
    assert found["plain"] < 1e-5 and found["skip"] < 1e-5 and found["text lora"] < 1e-5 and found["lora"] < 1e-4, found
    assert found["skip differs"] > 0.01 and found["text lora differs"] > 0.01 and found["lora differs"] > 0.01, found
    assert found["half noise"] < 0.02 and found["half gradient"] < 0.05, found


def test_models_of_other_families_are_refused_by_name(installation: Installation):
    found = _run(installation, "families.py")
    expected = {
        "no clip": "expected a CLIP, found nothing",
        "no vae": "expected a VAE, found nothing",
        "xl clip": "(text encoders g, l)",
        "xl inject": "(text encoders g, l)",
        "sd2 model": "reads embeddings of width 1024, but the CLIP's have width 96",
        "inpainting": "with 4 input channels, found 9",
        "vae": "latents have 16 channels, but the MODEL reads 4",
        "adm": "text conditioning alone, found SD15",
        "flow": "found ModelSamplingDiscreteFlow and CONST",
        "transformer": "expected a Stable Diffusion 1.5 MODEL, found MiniatureWorld",
        "true SD1.5": "the VAE's latents have 16 channels, but the MODEL reads 4",  # MODEL and CLIP were fine
        "true SD1.5 inpainting": "expected a MODEL with 4 input channels, found 9, as inpainting models have",
        "true SD2": "the MODEL (SD20) reads embeddings of width 1024, but the CLIP's have width 768",
        "true SDXL": "the MODEL (SDXL) reads embeddings of width 2048, but the CLIP's have width 768",
        "true Flux": "expected a Stable Diffusion 1.5 MODEL, found Flux",
        "true SD2 clip": "found SD2ClipModel (text encoders h)",
        "true SDXL clip": "found SDXLClipModel (text encoders g, l)",
        "true Flux clip": "found FluxClipModel_ (text encoders l, t5xxl)",
        "sd1 subject": "width 768, but this CLIP (miniature) reads width 96",
    }
    assert found.keys() == expected.keys()
    for name, part in expected.items():
        assert part in found[name] and "\n" not in found[name], f"{name}: {found[name]}"


def test_encoders_of_other_packs_see_the_subject_or_it_is_said(installation: Installation):
    found = _run(installation, "encoders_of_others.py")
    ways = ("stock", "by_scheduled_chunks", "by_token_lists", "by_inner_tokenizer", "by_text_node", "by_exchanged_method")
    assert [found[way] for way in ways] == [0.0] * len(ways), found
    assert min(found[f"{way} matters"] for way in ways) > 0.01, found
    assert found["heard of them"] == []
    (said,) = found["heard of the one that drops it"]
    assert "<one> is not in the image" in said


def test_instantbooths_adapter_is_the_same_in_both(installation: Installation):
    if not installation.has("diffusers"):
        pytest.skip(f"{installation.python} has no diffusers to compare with; pip install diffusers there")
    for name, differences in _run(installation, "instant.py").items():
        for key, value in differences.items():
            if key.endswith("change"):
                assert (value == 0) == key.startswith("gate 0.0 "), (name, key)
            else:
                assert value < 1e-5, (name, key, value)
