"""What is freed inside stays, and goes back at the end."""

from __future__ import annotations

import platform
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from hybridbooth_core.fast_cpu import kept_memory, memory

CPU = torch.device("cpu")
SIZES = (10_000_000, 1_300_000, 650_000, 5_200_000)  # entries of tensors as a network makes them, some held while others go

FRESH = f"""
import resource, torch
from hybridbooth_core.fast_cpu import kept_memory
from hybridbooth_core.peak import _status

def pages(rounds=20):
    for half in range(2):  # in the first half they find their places
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(rounds):
            held = [torch.ones(size) for size in {SIZES}]
            del held[0]
            held.append(torch.ones({SIZES[0]}))
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

outside = pages()
with kept_memory(torch.device("cpu")):
    inside, during = pages(), _status("VmRSS")
print(outside, inside, during, _status("VmRSS"))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="there is something to keep with glibc only")
def test_pages_are_handed_out_once_while_it_is_open_and_go_back_at_the_end():
    done = subprocess.run([sys.executable, "-c", FRESH], check=True, capture_output=True, text=True)
    outside, inside, during, after = map(int, done.stdout.split())
    assert inside < outside / 3
    assert during - after > 40e6


def test_the_outermost_counts_and_errors_pass_through(monkeypatch):
    said = []
    libc = SimpleNamespace(mallopt=lambda *given: said.append(given), malloc_trim=lambda pad: said.append("trim"))
    monkeypatch.setattr(memory, "_glibc", lambda: libc)
    with pytest.raises(InterruptedError), kept_memory(CPU):
        opened = list(said)
        with kept_memory(CPU):
            pass
        assert said == opened != []
        raise InterruptedError
    assert said == [*opened, *memory.ADAPTED.items(), "trim"]


def test_other_devices_are_left_alone(monkeypatch):
    monkeypatch.setattr(memory, "_glibc", lambda: SimpleNamespace())  # any call of it would fail
    with kept_memory(torch.device("cuda")):
        pass
