"""The peak of a piece of work that an earlier peak hides."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.memory import GIVES_BACK

SIZE = 200 << 20
FRESH = f"""
import time, torch
from benchmarks.memory import sampled_peak
from hybridbooth_core.models.peak_memory import resident_size
torch.ones(2 * {SIZE} // 4)
for share in (2, 12):
    before = resident_size()
    with sampled_peak() as highest:
        held = torch.ones(share * {SIZE} // 8)
        time.sleep(0.1)
        del held
    print(highest() - before)
"""


@pytest.mark.skipif(platform.system() != "Linux", reason="elsewhere the system does not say what is resident now")
def test_it_is_sampled_below_an_earlier_peak_and_exact_above_it():
    environment = os.environ | GIVES_BACK | {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", FRESH], capture_output=True, text=True, check=True, env=environment)
    hidden, raised = map(int, done.stdout.split())
    assert hidden == pytest.approx(SIZE, rel=0.05) and raised == pytest.approx(6 * SIZE, rel=0.05)
