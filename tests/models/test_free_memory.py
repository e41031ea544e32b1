"""Free memory as the platform says it, and the plan that a model of true size gets."""

from __future__ import annotations

import sys

import torch

from hybridbooth_core.models import diffusers_adapter, free_memory
from hybridbooth_core.models.memory import EstimatesMemory, memory_plans


def test_what_the_system_says_is_available(tmp_path, monkeypatch):
    listing = tmp_path / "meminfo"
    listing.write_text("MemTotal:       100 kB\nMemAvailable:    42 kB\n")
    monkeypatch.setattr(free_memory, "MEMINFO", listing)
    assert free_memory.free_memory(torch.device("cpu")) == 42 * 1024
    listing.write_text("MemTotal:       100 kB\n")
    assert free_memory.free_memory(torch.device("cpu")) == sys.maxsize
    assert free_memory.free_memory(torch.device("meta")) == sys.maxsize


def test_the_estimate_grows_with_rows_and_pixels_and_shrinks_with_checkpointing(world, monkeypatch):
    assert isinstance(world, EstimatesMemory)
    plain, checkpointed, *fewer = memory_plans(4, 64)
    needs = [world.memory_needed(plan) for plan in (plain, checkpointed, *fewer)]
    assert needs == sorted(needs, reverse=True) and needs[1] < needs[0] / 2 and fewer[-1].batch_size == 1
    monkeypatch.setattr(diffusers_adapter, "free_memory", lambda device: 123)
    assert world.memory_free() == 123


def test_at_true_size_a_row_takes_what_was_measured():
    """5 GB without checkpointing and 2 GB with it, at 512 pixels in float32."""
    cells = 64 * 64
    assert 5e9 < diffusers_adapter.CELL_BYTES * cells < 7e9 and 2e9 < diffusers_adapter.CELL_BYTES_CHECKPOINTED * cells < 3e9
