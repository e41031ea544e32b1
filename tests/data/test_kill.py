"""kill -9 at any moment: the same command goes on, and the result is the same byte for byte."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_run_killed_at_each_step_and_by_the_clock_is_completed_as_if_never_killed(masked, tmp_path):
    (masked / "03.jpg").write_text("broken, so that the log has something to say")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    program = [sys.executable, str(Path(__file__).with_name("killed.py")), str(masked), str(tmp_path)]
    done = subprocess.run(program, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["files"] == ["index.json", "left_out.jsonl", *(f"shard-00000{number}.tar" for number in range(3))]
    moments = result["moments"]
    assert len(moments) > 15 and {moment["shards"] for moment in moments} == {0, 1, 2, 3}
    assert [moment for moment in moments if not (moment["code"] and moment["same"] and moment["untouched"])] == []
    assert result["clock"]["same"] and result["clock"]["kills"] >= 2
