"""Several processes: two on this machine, launched as a user would do it, lose what one loses."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from hybridbooth_core.bases.training import training_bases
from hybridbooth_core.training.batch import DataShard
from hybridbooth_core.training.checkpoint import checkpoint_path, checkpoints
from hybridbooth_core.training.config import Data, to_json
from hybridbooth_core.training.distributed import DistributedEnv
from hybridbooth_core.training.trainer import Trainer

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parents[1]
LAUNCH = [sys.executable, "-m", "accelerate.commands.launch"]


@pytest.fixture(scope="module")
def small():
    for name in ("accelerate", "diffusers", "transformers"):
        pytest.importorskip(name)
    if not torch.distributed.is_available():
        pytest.skip("this PyTorch knows no other processes")
    sys.path.insert(0, str(FOLDER))
    yield importlib.import_module("small_training")
    sys.path.remove(str(FOLDER))


@pytest.fixture(scope="module")
def alone(small, tmp_path_factory):
    """The same trainings in one process: a function of a name to its folder and the trained probe."""
    folder, made = tmp_path_factory.mktemp("alone"), {}

    def run(name, **changes):
        if name not in made:
            trainer = small.trainer_of(replace(small.CONFIG, out=folder / name, **changes))
            made[name] = (folder / name, trainer.run().state_dict())
        return made[name]

    return run


@pytest.fixture(scope="module")
def sd15_alone(small, sd15, shards, tmp_path_factory):
    """A training on shards in Stable Diffusion 1.5's layout, in one process: its folder, result, and what its source handed out."""
    config = replace(
        small.CONFIG,
        out=tmp_path_factory.mktemp("sd15_alone"),
        model=str(sd15),
        dino="S",
        steps=3,
        batch=4,
        data=Data(shards=shards.cached, cached=True, interleave=2, background=0, augment=0),
        log=replace(small.CONFIG.log, save_every=3),
    )
    trainer, augmented = Trainer(replace(config, micro_batch=4), *training_bases().prepare(config, torch.device("cpu"))), []
    small.watch_rows(trainer.context.source, augmented)
    return SimpleNamespace(folder=config.out, config=config, augmented=augmented, state=trainer.run().state_dict())


@pytest.fixture(scope="module")
def two(small, alone, sd15_alone, tmp_path_factory):
    """What two processes left behind: their folder, what each has to tell, and how the launcher ended."""
    folder = tmp_path_factory.mktemp("two")
    shutil.copytree(alone("whole")[0], folder / "gone_on")
    for step in (4, 6):
        checkpoint_path(folder / "gone_on", step).unlink()
    (folder / "sd15.json").write_text(json.dumps(to_json(replace(sd15_alone.config, out=folder / "sd15"))))
    launch = [*LAUNCH, "--config_file", str(ROOT / "docs" / "accelerate_ddp.yaml"), "--num_processes", "2", "--main_process_port", "0"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [*launch, str(FOLDER / "small_training.py"), "together", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, env=environment)
    assert (folder / "told-1.json").exists() and (folder / "told-0.json").exists(), done.stderr[-4000:]
    told = [json.loads((folder / f"told-{rank}.json").read_text()) for rank in range(2)]
    return SimpleNamespace(folder=folder, told=told, done=done)


def apart(state, other) -> float:
    """How far weights lie apart, in steps of AdamW, which moves each by about its rate however small its gradient is."""
    between = torch.cat([(state[name] - value).flatten() for name, value in other.items()])
    return between.square().mean().sqrt().item() / 1e-3


def assert_same_training(small, two, name, alone) -> None:
    """Losses, validations and the averaged weights of both processes are those of one, to rounding."""
    rows, expected = small.curve(two.folder / name), small.curve(alone[0])
    assert len(rows) == len(expected)
    for row, other in zip(rows, expected, strict=True):
        row, other = ({key: value for key, value in one.items() if key not in ("said", "go")} for one in (row, other))
        assert row == pytest.approx(other, abs=1e-5), row["step"]
    for rank in range(2):
        state = torch.load(two.folder / f"{name}-{rank}.pt", weights_only=True)
        assert list(state) == list(alone[1]) and apart(state, alone[1]) < 0.01


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ddp", "grids", "promptnet"])
def test_two_processes_lose_what_one_loses(name, small, two, alone):
    changes = small.SHARED[name] | {"micro_batch": small.SHARED[name].get("batch", 2)}
    assert_same_training(small, two, name, alone(name, **changes))


@pytest.mark.slow
def test_two_go_on_from_where_one_stopped(small, two, alone):
    assert_same_training(small, two, "gone_on", alone("whole"))


@pytest.mark.slow
def test_one_goes_on_from_where_two_stopped(small, two, alone, tmp_path):
    folder = shutil.copytree(two.folder / "ddp", tmp_path / "ddp")
    checkpoint_path(folder, 4).unlink()
    changes = small.SHARED["ddp"] | {"micro_batch": 4}
    probe = small.trainer_of(replace(small.CONFIG, out=folder, **changes)).run(resume=True)
    expected = alone("ddp", **changes)
    losses = [[row["loss"] for row in small.curve(place) if "loss" in row] for place in (folder, expected[0])]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5) and len(losses[0]) == 4
    assert apart(probe.state_dict(), expected[1]) < 0.01


@pytest.mark.slow
def test_the_estimate_counts_what_processes_exchange_gradients_through(two):
    assert [told["world"] for told in two.told] == [2, 2] and [told["rank"] for told in two.told] == [0, 1]
    for told in two.told:
        alone, together = told["estimated"]
        assert told["exchanged"] == [together - alone] * 2


@pytest.mark.slow
def test_the_first_process_draws(two):
    assert sorted(path.name for path in (two.folder / "grids" / "grids").iterdir()) == ["step-00000002.png", "step-00000004.png"]
    assert not (two.folder / "ddp" / "grids").exists()


@pytest.mark.slow
def test_a_loss_that_is_nan_in_one_process_ends_all_of_them(two):
    assert all("the loss is nan at step 3" in told["nan"] and "step-00000002.ckpt" in told["nan"] for told in two.told)
    assert [step for step, _ in checkpoints(two.folder / "nan")] == [2]


def interleaved(parts: list[list[list[str]]]) -> list[str]:
    """Rows in the order of their numbers, out of what each process saw in its micro-batches."""
    return [row for rows in zip(*([row for batch in part for row in batch] for part in parts), strict=True) for row in rows]


@pytest.mark.slow
def test_the_rows_of_a_step_are_shared_out(two, small):
    """Row 0 to the first process, row 1 to the second, and so on."""
    source, augmented = small.trainer_of(small.CONFIG).context.source, []
    small.watch_rows(source, augmented)
    batches = source.batches(0, DataShard(4, 4))
    for _ in range(4):
        next(batches)
    rows = [row for batch in augmented for row in batch]
    assert len(set(rows)) == 16
    assert interleaved([told["seen"][:8] for told in two.told]) == rows


@pytest.mark.slow
def test_shards_are_split_without_overlap(two, sd15_alone):
    """Three steps of four rows are an epoch of the twelve images."""
    rows = [row for batch in sd15_alone.augmented[:3] for row in batch]
    assert len(set(rows)) == 12
    parts = [told["shards"][:3] for told in two.told]
    assert interleaved(parts) == rows
    assert not {row for batch in parts[0] for row in batch} & {row for batch in parts[1] for row in batch}


@pytest.mark.slow
def test_two_train_on_shards_as_one_does(two, sd15_alone, small):
    """In Stable Diffusion 1.5's layout, out of files that each process loads."""
    assert_same_training(small, two, "sd15", (sd15_alone.folder, sd15_alone.state))


@pytest.mark.slow
def test_where_one_fails_the_others_end_too(two):
    assert two.done.returncode != 0 and "shard-000001.tar is missing" in two.done.stderr
    assert [step for step, _ in checkpoints(two.folder / "broken")] == [2]


def test_accelerate_reads_the_files_that_are_shipped():
    config_of = pytest.importorskip("accelerate.commands.config.config_args").load_config_from_file
    shipped = config_of(str(ROOT / "docs" / "accelerate_ddp.yaml"))
    assert (shipped.distributed_type.value, str(shipped.mixed_precision)) == ("MULTI_GPU", "no")


def test_fsdp_is_refused_in_one_sentence(small, monkeypatch, refuses):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    assert "accelerate_ddp.yaml" in refuses(DistributedEnv.launched, "cpu")


def test_one_process_alone_needs_no_accelerate():
    processes = DistributedEnv.alone(torch.device("cpu"))
    values = torch.tensor([1.0, 2.0])
    assert processes.main and processes.mean(values) is values and processes.agree(3)
    processes.wait()
