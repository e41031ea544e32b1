"""The tables of the README and of docs/ are the committed results'."""

import re
from pathlib import Path

import pytest

from benchmarks.tables import BLOCKS, PAGES, filled

ROOT = Path(__file__).resolve().parent.parent
RUN = "run python -m benchmarks.tables"


@pytest.mark.parametrize("page", PAGES)
def test_tables_are_current(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    assert filled(text) == text, RUN
    marked = re.findall(r"<!-- (\w+) -->", text)
    assert marked and set(marked) <= set(BLOCKS), "a block without a table"


def test_every_table_is_on_a_page():
    texts = "".join((ROOT / page).read_text(encoding="utf-8") for page in PAGES)
    assert all(f"<!-- {name} -->" in texts for name in BLOCKS)


def test_the_readme_shows_every_system():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    block = text.split("<!-- result -->")[1].split("<!-- /result -->")[0]
    assert [line.split("|")[1].strip(" *") for line in block.strip().splitlines()[2:]] == [
        "class noun alone", "probe alone", "HybridBooth", "InstantBooth", "hypernetwork alone", "HyperDreamBooth", "Lightweight DreamBooth",
        "Textual Inversion, 5 tokens", "Custom Diffusion", "DreamBooth, LoRA", "DreamBooth",
    ]  # fmt: skip


def test_a_changed_table_is_noticed():
    text = "before\n<!-- result -->\nstale\n<!-- /result -->\nafter"
    assert "stale" not in filled(text) and filled(text).startswith("before\n<!-- result -->\n|") and filled(text).endswith("after")
