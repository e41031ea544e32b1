"""A stock Stable Diffusion 1.5 checkpoint at its true layout, in the host's own Python: scripts of `inside/` and what they must find."""

from __future__ import annotations

import json
from pathlib import Path

from .comfy import Installation

SCRIPTS = Path(__file__).parent / "inside"


def _run(installation: Installation, script: str, *arguments: Path) -> dict:
    return json.loads(installation.run(SCRIPTS / script, *map(str, arguments)).strip().splitlines()[-1])


def test_whatever_happens_the_gradient_is_right_and_the_model_stays_as_it_is(installation: Installation, checkpoint: Path, tmp_path: Path):
    found = _run(installation, "sd15.py", checkpoint, tmp_path)
    assert all(value is True for name, value in found.items() if name.startswith("after ")), found
    assert found["gradient"] > 1e-2 and found["checkpointing"] < 1e-5, found

    # the file is in float16, so that only bfloat16 and float8 change the weights; these are held against a file rounded likewise
    assert max(found[name] for name in ("fp16 stored", "fp16 text", "fp8")) < 1e-5, found
    assert found["fp8 stored as"] == "torch.float8_e4m3fn" and 1e-2 < found["fp8 and fp32"] < 0.3, found
    assert 1e-4 < found["bf16 stored"] < 0.03 and max(found["fp16"]) < 5e-3 and max(found["bf16"]) < 0.05, found

    assert max(found[f"{name} context"] for name in ("plain", "skip", "lora")) < 1e-5, found
    assert min(found["skip differs"], found["lora differs"], found["lora matters"]) > 0.01, found
    assert found["lora noise"] < 1e-4 and found["lora gradient"] < 1e-3, found

    assert found["preferred attention"] < 1e-4
    assert all("knows no gradients" in said or "inplace operation" in said for said in found["without our override"]), found

    assert found["plan"] == "checkpointing off, batch size 2, 64 px"
    assert found["interrupt"].startswith("InterruptProcessingException")
    assert found["fallen to"] == found["spared"] == "checkpointing on, batch size 1, 64 px"
    assert len(found["log"]) == 2 and all("restarting with" in line for line in found["log"])
    assert found["fallen"] < 1e-2 and found["spared words"] < 1e-2, found
    assert found["nothing fits"].startswith("UserError: not enough memory to refine") and "GB needed" in found["nothing fits"]
    assert found["asked"] == found["estimate"] > 20e6, found
    assert found["stock context"] == 0


def test_the_estimate_of_memory_is_honest(installation: Installation, checkpoint: Path):
    for name, (guess, counted) in _run(installation, "memory.py", checkpoint).items():
        assert 0.7 * counted < guess < 1.3 * counted, f"{name}: {guess / 1e6:.1f} MB estimated, {counted / 1e6:.1f} MB counted"
