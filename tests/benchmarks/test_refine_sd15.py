"""The benchmark at true size, tried at tiny sizes: every row can be measured, counts what it should, and a stopped run continues."""

from __future__ import annotations

import json
import sys
from contextlib import suppress

import pytest
import torch

from benchmarks import refine_sd15 as bench
from benchmarks.sd15.rows import ONLY_ON_GPU
from benchmarks.sd15.summary import validations
from benchmarks.sd15.tables import refinement_tables
from hybridbooth_core.refine.refine import RefineConfig, refine

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def rows() -> dict[str, dict]:
    """Every row, in this process."""
    return {name: bench.measure_here(name, CPU, quick=True, repeats=1) for name in bench.ROWS}


def test_every_row_is_measured(rows):
    for name, row in rows.items():
        assert row["seconds"]["median"] > 0 and row["tflop"] > 0 and row["floor_fraction"] > 0, name
        assert set(row["product_gflops"]) == {"mm"} and row["ratio_to_bare"] > 0
        assert name == "bare_diffusers" or row["ratio_range"][0] <= row["ratio_to_bare"] <= row["ratio_range"][1]
    assert rows["bare_diffusers"]["ratio_to_bare"] == 1


def test_operations_are_those_of_the_work(rows):
    """No time enters here, so these hold on any machine."""
    count = {name: row["tflop"] for name, row in rows.items()}
    bare = count["bare_diffusers"]
    assert 1 < count["words"] / bare < 3, "the text encoder and the maps come on top, and are large beside a tiny denoiser"
    assert count["textual_inversion"] == pytest.approx(count["words"], rel=0.05)
    assert count["words"] < count["residual"] and count["words"] < count["words_checkpointed"]
    assert 0.3 < count["validation"] / (4 * count["words"]) < 0.6, "forward is a good third to a half"
    assert count["custom_diffusion"] > 1.5 * bare and count["dreambooth"] > 2.5 * bare
    assert count["many_4"] == pytest.approx(4 * count["many_1"], rel=0.05) == pytest.approx(2 * count["many_2"], rel=0.05)
    assert count["subject"] > 10 * 4 * bare


@pytest.mark.parametrize("mode", ["words", "residual"])
def test_validated_rows_are_those_of_a_refinement(mode, world, subject, new_probe, monkeypatch):
    seen = []
    plain = type(world).predict_noise

    def counted(model, noisy, *args):
        if not torch.is_grad_enabled():
            seen.append(len(noisy))
        return plain(model, noisy, *args)

    monkeypatch.setattr(type(world), "predict_noise", counted)
    refine(world, subject.ref, subject.noun, RefineConfig(mode=mode), new_probe(), subject.features)
    assert sum(seen) == validations(mode)


@pytest.fixture
def run(monkeypatch, tmp_path):
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


def row(name: str, ratio: float = 1.1) -> dict:
    found = {
        "title": name, "seconds": {"median": 2.0, "min": 1.5, "max": 2.5}, "tflop": 0.1, "floor_fraction": 0.5, "commit": "abc",
        "product_gflops": {"mm": {"median": 100.0, "min": 90.0, "max": 110.0}}, "peak_memory_gb": {"process": 6.0, "grown": 2.0},
        "ratio_to_bare": ratio, "ratio_range": [1.0, 1.2],
    }  # fmt: skip
    return found | ({"rows": 4} if name == "validation" else {})


def test_a_stopped_run_continues_where_it_stopped(run):
    threads = torch.get_num_threads()
    result, first = run(fails="residual")
    assert list(result["rows"]) == first[:-1] == ["bare_diffusers", "words", "words_checkpointed"]
    result, second = run()
    assert second == ["residual", *list(bench.ROWS)[4:]] and list(result["rows"]) == list(bench.ROWS)
    assert run()[1] == [] and run("--only", "words", "--again")[1] == ["words"]
    assert len(run("--threads", str(threads + 1))[1]) == len(bench.ROWS), "another machine's rows do not stand beside"
    torch.set_num_threads(threads)


def test_rows_for_a_gpu_are_measured_on_a_cpu_only_if_named(monkeypatch, tmp_path):
    measured = []
    monkeypatch.setattr(bench, "measure_apart", lambda name, _: measured.append(name) or row(name))
    monkeypatch.setattr(bench, "host_seconds", lambda: None)
    for options in ([], ["--only", "dreambooth"]):
        monkeypatch.setattr(sys, "argv", ["refine_sd15", "--out", str(tmp_path / "result.json"), *options])
        bench.main()
    assert measured == [name for name in bench.ROWS if name not in ONLY_ON_GPU] + ["dreambooth"]


def test_a_row_is_measured_in_a_process_of_its_own(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["refine_sd15", "--quick", "--threads", "1", "--repeats", "1"])
    found = bench.measure_apart("bare_diffusers", bench.arguments())
    assert found["tflop"] > 0 and found["commit"], found


def test_a_subjects_cost_and_the_aims_follow_from_the_ratios(run):
    result, _ = run()
    costs = result["subjects"]
    assert costs["textual_inversion"] == {"passes": pytest.approx(3000 * 4 * 1.1), "passes_single_rows": pytest.approx(3000 * 1.1)}
    assert costs["custom_diffusion"]["passes"] == pytest.approx(250 * 2 * 1.1)
    words = 10 * 4 * 1.1 + 12 * 1.1 / 4
    assert costs["hybridbooth_words"] == {"passes": pytest.approx(words, abs=0.06), "validated_rows": 4 * 3}
    verdicts = {verdict["what"]: verdict for verdict in result["verdicts"]}
    embeddings = verdicts["step on the token embeddings against the bare pass"]
    assert (embeddings["value"], embeddings["met"], embeddings["aim_met"]) == (1.1, True, False)
    assert not verdicts["a subject by Custom Diffusion against HybridBooth, words"]["met"]
    assert verdicts["floor_fraction of a step on the token embeddings"]["met"]


def test_the_table_shows_all_of_it(run):
    result, _ = run()
    table = refinement_tables(result)
    assert "| words | 1.10x (1.00 to 1.20) | 0.10 | 0.50 | 6.0 GB |" in table and "at commit `abc`" in table
    assert "| Custom Diffusion, 250 steps of 2 + 2 rows | 550 | 22.7 | 11.4 |" in table
    assert "| step on the token embeddings against the bare pass | 1.1x | 1.15x | 1.03x | met |" in table
    result["rows"]["dreambooth"] = {"title": "DreamBooth", "left_out": "too large"}
    assert "| DreamBooth | left out: too large |" in refinement_tables(result)
