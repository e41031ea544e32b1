"""The peak of memory, against an allocation of known size."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest
import torch

from hybridbooth_core.models.peak_memory import process_peak, resident_size, watch_peak

CPU = torch.device("cpu")
SIZE = 200 << 20
FRESH = f"""
import torch
from hybridbooth_core.models.peak_memory import watch_peak
used = watch_peak(torch.device("cpu"))
torch.ones({SIZE} // 4)  # gone again when asked
first = used()
torch.ones({SIZE} // 8)
hidden = watch_peak(torch.device("cpu"))
torch.ones({SIZE} // 8)
print(first.total, first.grown, used() == first, hidden())
"""


@pytest.mark.skipif(platform.system() == "Windows", reason="Windows counts no peak")
def test_it_sees_what_the_work_took_and_nothing_where_an_earlier_peak_hides_it():
    """In a process of its own: the peak of this one may be as high as it likes."""
    done = subprocess.run([sys.executable, "-c", FRESH], capture_output=True, text=True, check=True)
    total, grown, unchanged, hidden = done.stdout.split()
    assert 0.98 * SIZE < int(grown) < 1.1 * SIZE and int(total) > int(grown)
    assert (unchanged, hidden) == ("True", "None"), "half as much later on changes nothing, and cannot be seen"


@pytest.mark.skipif(platform.system() == "Windows", reason="Windows counts no peak")
def test_sizes_of_the_process_are_bytes():
    assert 1e8 < resident_size() <= 1.01 * process_peak() < 1e12, "PyTorch alone takes more than 0.1 GB"


def test_it_says_nothing_where_the_platform_cannot_tell(monkeypatch):
    monkeypatch.setattr("platform.system", lambda: "Windows")
    assert watch_peak(CPU)() is None


def test_it_says_nothing_of_a_device_that_nobody_counts():
    assert watch_peak(torch.device("meta"))() is None
