"""What the tests of this folder share."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

PHOTOS = Path(__file__).parents[1] / "data" / "dreambooth"


def disc(size: tuple[int, int], centre: tuple[float, float], radius: float) -> Image.Image:
    """A mask of this width and height with a disc of 255."""
    y, x = np.mgrid[: size[1], : size[0]]
    inside = (x + 0.5 - centre[0]) ** 2 + (y + 0.5 - centre[1]) ** 2 < radius**2
    return Image.fromarray((inside * 255).astype(np.uint8))


def content(folder: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def stored(out: Path) -> list[dict[str, Any]]:
    """The samples of a folder of shards, read without our own reader; notes as tables."""
    samples: dict[str, dict[str, Any]] = {}
    for path in sorted(out.glob("*.tar")):
        with tarfile.open(path) as tar:
            for info in tar:
                key, _, ending = info.name.partition(".")
                file = tar.extractfile(info)
                assert file is not None
                samples.setdefault(key, {"key": key, "shard": path.name})[ending] = file.read()
    return [{**sample, "json": json.loads(sample["json"])} for sample in samples.values()]


def left_out(out: Path) -> list[tuple[str, str]]:
    """Names and reasons in the log."""
    entries = [json.loads(line) for line in (out / "left_out.jsonl").read_text().splitlines()]
    return [(entry["name"], entry["reason"]) for entry in entries]
