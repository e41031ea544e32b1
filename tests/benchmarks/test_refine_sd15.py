"""The benchmark at true size, tried at tiny sizes: every row can be measured, counts what it should, and a stopped run goes on."""

from __future__ import annotations

import importlib
import json
import platform
import sys
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from benchmarks.sd15.tables import sd15_page
from hybridbooth_core.refine.refine import RefineConfig, refine

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def bench():
    pytest.importorskip("diffusers")
    sys.path.insert(0, str(FOLDER))
    yield importlib.import_module("refine_sd15")
    sys.path.remove(str(FOLDER))


@pytest.fixture(scope="module")
def rows(bench) -> dict[str, dict]:
    """Every row, in this process."""
    return {name: bench.measure_here(name, CPU, quick=True, repeats=1) for name in bench.ROWS}


def test_every_row_is_measured(rows):
    for name, row in rows.items():
        assert row["seconds"]["median"] > 0 and row["tflop"] > 0 and row["floor_fraction"] > 0, name
        assert {"mm", "fastest"} == set(row["product_gflops"])
        assert platform.system() != "Linux" or row["peak_memory_gb"]["process"] > 0.1
    assert all(rows[name]["ratio_to_bare"] > 0 for name in ("words", "words_checkpointed", "residual", "learned"))


def test_operations_are_those_of_the_work(rows):
    """No time enters here, so these hold on any machine."""
    count = {name: row["tflop"] for name, row in rows.items()}
    assert count["bare"] == pytest.approx(count["bare_diffusers"])
    assert 1 < count["words"] / count["bare"] < 3, "the text encoder and the maps come on top, and are large beside a tiny denoiser"
    assert count["textual_inversion"] == pytest.approx(count["words"], rel=0.05)
    assert count["words"] <= count["learned"] < count["residual"] and count["words"] < count["words_checkpointed"]
    assert 0.3 < count["validation"] / (4 * count["words"]) < 0.6, "forward is a good third to a half"
    assert count["custom_diffusion"] > 1.5 * count["bare"] and count["dreambooth"] > 2.5 * count["bare"]
    assert count["many_4"] == pytest.approx(4 * count["many_1"], rel=0.05) == pytest.approx(2 * count["many_2"], rel=0.05)
    assert count["subject"] > 5 * 4 * count["bare"]


def test_operations_of_onednns_products_are_counted(bench):
    if not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        pytest.skip("no oneDNN here")
    from sd15.measure import counting

    x, weight = torch.randn(3, 7, 320), torch.randn(256, 320)
    with counting() as plain:
        F.linear(x, weight)
    with counting() as mine:
        torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")
    torch.testing.assert_close(product(x, weight), F.linear(x, weight), rtol=1e-4, atol=1e-4)
    assert plain.get_total_flops() == mine.get_total_flops() == 2 * 3 * 7 * 320 * 256


@pytest.mark.parametrize("mode", ["words", "learned"])
def test_validated_rows_are_those_of_a_refinement(bench, mode, world, subject, new_probe, monkeypatch):
    from sd15.summary import validations

    seen = []
    plain = type(world).predict_noise

    def counted(model, noisy, *args):
        if not torch.is_grad_enabled():
            seen.append(len(noisy))
        return plain(model, noisy, *args)

    monkeypatch.setattr(type(world), "predict_noise", counted)
    probe = new_probe(learned_optimizer=8)
    torch.nn.init.normal_(probe.learned_optimizer.out.weight, std=0.1)
    result = refine(world, subject.ref, subject.noun, RefineConfig(mode=mode), probe, subject.features)
    assert mode == "learned" or result.best_step > 0, "without a better step there is no line search"
    assert sum(seen) == validations(mode)


def test_dreambooth_is_measured_in_parts_where_memory_is_short_and_left_out_where_it_is_too_short(bench, monkeypatch):
    from sd15 import rows as module

    parameters = 859_520_964
    world = bench.new_world(bench.QUICK, CPU, torch.float32)
    needed = module.WHOLE_TRAINING * sum(p.numel() for p in world.model.unet.parameters()) / parameters
    setting = bench.Setting(world, torch.float32, 1, 64)
    monkeypatch.setattr(module, "free_bytes", lambda: 0.9 * needed)
    parts = module.dreambooth(setting)
    assert parts["seconds"]["median"] > parts["optimizer_seconds"]["median"] > 0 and "one after the other" in parts["note"]
    monkeypatch.setattr(module, "free_bytes", lambda: 0.5 * needed)
    assert set(module.dreambooth(setting)) == {"left_out"}


@pytest.fixture
def run(bench, monkeypatch, tmp_path):
    """A function: options of the command to what it wrote and which rows it measured, with rows that cost nothing."""
    out = tmp_path / "result.json"

    def call(*options: str, fails: str = "") -> tuple[dict, list[str]]:
        measured = []

        def apart(name, _):
            measured.append(name)
            if name == fails:
                raise KeyboardInterrupt
            return row(name)

        monkeypatch.setattr(bench, "measure_apart", apart)
        monkeypatch.setattr(sys, "argv", ["refine_sd15.py", "--quick", "--out", str(out), *options])
        with suppress(KeyboardInterrupt):
            bench.main()
        return json.loads(out.read_text()), measured

    return call


def row(name: str, seconds: float = 2.0) -> dict:
    rates = {library: {"median": 100.0, "min": 90.0, "max": 110.0} for library in ("mm", "fastest")}
    found = {
        "title": name, "seconds": {"median": seconds, "min": seconds, "max": seconds}, "tflop": 0.1, "product_gflops": rates,
        "floor_fraction": 0.5, "peak_memory_gb": {"process": 6.0, "grown": 2.0}, "ratio_to_bare": 1.1,
    }  # fmt: skip
    return found | ({"rows": 4} if name == "validation" else {})


def test_a_stopped_run_goes_on_where_it_was(run, bench):
    threads = torch.get_num_threads()
    result, first = run(fails="residual")
    assert list(result["rows"]) == first[:-1] == ["bare_diffusers", "bare", "words", "words_checkpointed"]
    result, second = run()
    assert second == ["residual", *list(bench.ROWS)[5:]] and list(result["rows"]) == list(bench.ROWS)
    assert run()[1] == [] and run("--only", "bare", "--again")[1] == ["bare"]
    assert len(run("--threads", str(threads + 1))[1]) == len(bench.ROWS), "another machine's rows do not stand beside"
    torch.set_num_threads(threads)


def test_a_subjects_seconds_and_the_aims_follow_from_the_rows(run):
    result, _ = run()
    costs = result["subjects"]
    assert costs["textual_inversion"] == {"seconds": 24000.0, "seconds_single_rows": 6000.0}
    assert costs["custom_diffusion"]["seconds"] == 1000.0
    assert costs["hybridbooth_learned"] == {"seconds": 5 * 4 * 2.0 + 24 * 0.5, "validated_rows": 24}
    assert costs["hybridbooth_words"]["validated_rows"] == 16 * 9
    verdicts = {verdict["what"]: verdict for verdict in result["verdicts"]}
    embeddings = verdicts["step on the words against the bare pass"]
    assert (embeddings["value"], embeddings["met"], embeddings["aim_met"]) == (1.1, True, False)
    assert not verdicts["a subject by Custom Diffusion against HybridBooth, learned"]["met"]
    assert verdicts["floor_fraction of a step on the words"]["met"]


def test_the_table_shows_all_of_it(run):
    result, _ = run()
    table = sd15_page(result)
    assert "| words | 2.00 (2.00 to 2.00) | 1.10x | 0.10 | 0.50 | 6.0 GB |" in table
    assert "| Custom Diffusion, 250 steps of 2 + 2 rows | 16.7 | 19.2 | 9.6 |" in table
    assert "| step on the words against the bare pass | 1.1x | 1.15x | 1.03x | met |" in table
    result["rows"]["dreambooth"] = {"title": "DreamBooth", "left_out": "too large"}
    assert "| DreamBooth | left out: too large |" in sd15_page(result)
