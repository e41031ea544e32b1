"""The main job, measured: does the probe find the subject, and do a few steps improve on it?

    python -m benchmarks.main_job

writes benchmarks/results/main_job.json. Every method draws the same test creatures in the same eight scenes from the same noise, over two
sampling seeds. Identity is the judge's cosine to a true render (1 the same creature, 0 another), prompt the share of images in which
every word of the scene came true. Intervals are over identities, paired where two methods are compared.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from tqdm import tqdm

from hybridbooth_core.encoders.features import extract_features
from hybridbooth_core.evaluation.statistics import interval
from hybridbooth_core.miniature.bundle import Miniature, load_miniature, manifest
from hybridbooth_core.miniature.evaluate import Scores, class_nouns, evaluate, reference_of
from hybridbooth_core.miniature.world import Creatures, creatures, split_numbers
from hybridbooth_core.models.adapter import Piece, class_embedding
from hybridbooth_core.refine.personalize import personalize
from hybridbooth_core.refine.refine import RefineConfig, Refinement, refine

from .provenance import RESULTS, ROOT, command_line, provenance

RESULT = RESULTS / "main_job.json"
SAMPLING_SEEDS = (0, 1)


def refined(world: Miniature, who: Creatures, config: RefineConfig) -> list[Refinement]:
    """The refinement of every creature, by the main job's own functions."""
    results = []
    for row, noun in enumerate(tqdm(class_nouns(who), desc=f"refining, {config.mode}")):
        ref = reference_of(who, row)
        features = extract_features(world.model, world.clip, world.dino, ref)
        results.append(personalize(world.model, world.probe, ref, features, noun, config).refinement)
    return results


def without_probe(world: Miniature, who: Creatures) -> list[Refinement]:
    """The same number of steps from the class noun's embedding in every token's place: what they can do without a probe."""
    results = []
    for row, noun in enumerate(tqdm(class_nouns(who), desc="refining, no probe")):
        vector = class_embedding(world.model, noun)
        start = vector.expand(world.probe.config.num_tokens, -1).clone()
        results.append(refine(world.model, reference_of(who, row), vector, RefineConfig(mode="words"), start=start))
    return results


def draw(world: Miniature, who: Creatures, name: str, subjects: Sequence[Piece]) -> Scores:
    """Scores [N, S x seeds] of one method."""
    runs = [evaluate(world.model, world.judge, who, subjects, seed=seed) for seed in tqdm(SAMPLING_SEEDS, desc=f"drawing, {name}")]
    return Scores(*(torch.cat([getattr(run, field) for run in runs], 1) for field in ("identity", "prompt", "kind")))


def seconds_of(arguments: list[str], repeats: int = 3) -> float:
    """The median wall time of a whole process."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        subprocess.run([sys.executable, *arguments], check=True, capture_output=True, cwd=ROOT)
        times.append(time.perf_counter() - began)
    return round(statistics.median(times), 2)


IMPORT = """
import asyncio, importlib.util, sys, time
root = sys.argv[1]
import comfy.options
comfy.options.enable_args_parsing()
sys.argv[1:] = ["--cpu"]
import nodes  # ComfyUI's own, and with it all that the host has imported before it comes to custom nodes
from comfy_api.latest import io
began = time.perf_counter()
spec = importlib.util.spec_from_file_location("pack", root + "/__init__.py", submodule_search_locations=[root])
module = importlib.util.module_from_spec(spec)
sys.modules["pack"] = module
spec.loader.exec_module(module)
imported = time.perf_counter()

async def register():
    return await (await module.comfy_entrypoint()).get_node_list()

assert len(asyncio.run(register())) >= 8
print(imported - began, time.perf_counter() - began)
"""


def import_seconds(comfyui: Path, repeats: int = 5) -> tuple[float, float]:
    """What the pack adds to the host's start, in the host's own Python: importing its root, and that plus registering all nodes."""
    python = os.environ.get("COMFYUI_PYTHON", comfyui / ".venv/bin/python")
    command = [python, "-c", IMPORT, str(ROOT)]
    runs = []
    for _ in range(repeats):
        done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=comfyui)
        runs.append([float(number) for number in done.stdout.splitlines()[-1].split()])
    root, registered = (statistics.median(run[i] for run in runs) for i in (0, 1))
    return round(root, 5), round(registered, 4)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--identities", type=int, default=32)
    options.add_argument("--gain-identities", type=int, default=128, help="of the default's gain alone; small gains need many")
    options.add_argument("--out", type=Path, default=RESULT)
    chosen = options.parse_args()
    world = load_miniature()
    who = creatures(split_numbers("test", chosen.identities))

    default = refined(world, who, RefineConfig())
    residual = refined(world, who, RefineConfig(mode="residual"))
    literal = refined(world, who, RefineConfig(mode="paper_literal"))
    bare = without_probe(world, who)
    methods: dict[str, Sequence[Piece]] = {
        "class_noun": class_nouns(who),
        "probe": [r.start for r in default],
        "refined": [r.embeddings for r in default],
        "refined_residual": [r.embeddings for r in residual],
        "no_probe": [r.embeddings for r in bare],
    }
    scores = {name: draw(world, who, name, subjects) for name, subjects in methods.items()}
    everyone = creatures(split_numbers("test", chosen.gain_identities))
    every_default = refined(world, everyone, RefineConfig())
    many = {name: draw(world, everyone, f"{name}, many", [getattr(r, field) for r in every_default])
            for name, field in (("probe", "start"), ("refined", "embeddings"))}  # fmt: skip
    gains = {
        "gain": (many["refined"].identity - many["probe"].identity).mean(1),
        "gain_residual": (scores["refined_residual"].identity - scores["probe"].identity).mean(1),
    }
    result = {
        **provenance(command_line("main_job")),
        "n_identities": chosen.identities,
        "n_prompts": scores["probe"].identity.shape[1] // len(SAMPLING_SEEDS),
        "sampling_seeds": len(SAMPLING_SEEDS),
        **{f"identity_{name}": round(s.identity.mean().item(), 4) for name, s in scores.items()},
        **{f"identity_{name}_ci95": interval(s.identity.mean(1)) for name, s in scores.items()},
        **{f"prompt_{name}": round(s.prompt.mean().item(), 4) for name, s in scores.items()},
        **{f"class_{name}": round(s.kind.mean().item(), 4) for name, s in scores.items()},
        "gain_identities": chosen.gain_identities,
        **{f"{name}_mean": round(gain.mean().item(), 4) for name, gain in gains.items()},
        **{f"{name}_ci95": interval(gain) for name, gain in gains.items()},
        "mode": default[0].mode,
        "effective_step": residual[0].step_size,
        "displacement_default": _mean([r.relative_changes[-1] for r in default]),
        "displacement_effective": _mean([r.relative_changes[-1] for r in residual]),
        "displacement_literal": _mean([r.relative_changes[-1] for r in literal]),
        "base_gates": manifest()["gates"],
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}",
    }
    with tempfile.TemporaryDirectory() as folder:
        result["demo_seconds"] = seconds_of(["-m", "hybridbooth_core", "demo", "--out", str(Path(folder) / "demo")])
    comfyui = Path(os.environ.get("COMFYUI_PATH", Path.home() / "comfy/ComfyUI"))
    if (comfyui / "nodes.py").exists():
        result["import_seconds"], result["import_and_register_seconds"] = import_seconds(comfyui)
    chosen.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


def _mean(values: list[float]) -> float:
    return float(f"{statistics.fmean(values):.4g}")


if __name__ == "__main__":
    main()
