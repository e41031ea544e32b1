"""InSPyReNet through transparent-background, with a stand-in for the package: its weights are not to be had here."""

import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from hybridbooth_core.data.masks import load_mask_maker


@pytest.fixture
def package(monkeypatch):
    """A module with the constructor and the method that version 1.3.4 has; what the constructor was given."""

    made: list[tuple] = []

    class Remover:
        def __init__(self, mode="base", jit=False, device=None, ckpt=None, resize="static"):
            if b"other" in Path(ckpt).read_bytes():
                raise RuntimeError("Error(s) in loading state_dict for InSPyReNet:\n\tMissing keys")
            made.append((mode, jit, device, resize))

        def process(self, img, type="rgba", threshold=None, reverse=False):
            share = np.asarray(img.convert("L")) / 255
            assert type == "map" and threshold is None and not reverse
            return Image.fromarray((np.stack([share] * 3, axis=-1) * 255).astype(np.uint8))

    module = ModuleType("transparent_background")
    module.Remover = Remover
    monkeypatch.setitem(sys.modules, "transparent_background", module)
    return made


def test_a_mask_is_the_packages_map(package, photo, tmp_path):
    weights = tmp_path / "ckpt_fast.pth"
    weights.write_bytes(b"weights")
    maker = load_mask_maker(weights, "fast", "cpu")
    assert package == [("fast", False, "cpu", "static")]
    mask = maker(photo(0))
    assert mask.mode == "L" and np.abs(np.asarray(mask, int) - np.asarray(photo(0).convert("L"), int)).max() <= 1
    digest = "9a129038d9a00aed0cf6a7ea059ca50a813449061ab87848cf1a13eafdf33b2c"  # echo -n weights | sha256sum
    assert maker.config == {"network": "InSPyReNet fast", "sha256": digest}


def test_what_is_missing_is_one_sentence(package, tmp_path, refuses, monkeypatch):
    weights = tmp_path / "ckpt_base.pth"
    assert "ckpt_base.pth from the releases" in refuses(load_mask_maker, weights)
    weights.write_bytes(b"other")
    assert "InSPyReNet base" in refuses(load_mask_maker, weights)
    assert "mask mode" in refuses(load_mask_maker, weights, "best")
    monkeypatch.setitem(sys.modules, "transparent_background", None)
    assert "hybridbooth[prep]" in refuses(load_mask_maker, weights)
