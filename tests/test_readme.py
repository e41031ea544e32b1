"""The README's figures are the committed results'."""

import importlib.util
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def test_tables_are_current():
    spec = importlib.util.spec_from_file_location("readme", ROOT / "benchmarks" / "readme.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    text = (ROOT / "README.md").read_text()
    assert module.filled(text) == text, "run python benchmarks/readme.py"
    assert "| class noun alone |" in text
    for path, page in module.pages().items():
        assert path.read_text() == page, "run python benchmarks/readme.py"
