"""The peak of memory, against an allocation of known size."""

from __future__ import annotations

import platform

import pytest
import torch

from hybridbooth_core.models.peak_memory import watch_peak

CPU = torch.device("cpu")


@pytest.mark.skipif(platform.system() != "Linux", reason="only Linux forgets an earlier peak")
def test_it_sees_what_was_used_since_and_nothing_from_before():
    size = 200 << 20
    torch.ones(2 * size // 4)  # a higher peak, over before anybody watches
    used = watch_peak(CPU)
    before = used()
    torch.ones(size // 4)  # gone again when asked
    after = used()
    assert before is not None and after is not None
    assert before.grown < size / 10 and 0.98 * size < after.grown < 1.1 * size
    assert after.total - before.total == after.grown - before.grown


def test_it_says_nothing_where_the_platform_cannot_tell(monkeypatch):
    monkeypatch.setattr("platform.system", lambda: "Windows")
    assert watch_peak(CPU)() is None


def test_it_says_nothing_of_a_device_that_nobody_counts():
    assert watch_peak(torch.device("meta"))() is None
