"""A sentence for the panel holds no folder of the machine."""

from __future__ import annotations

import pytest

from .pack import pack_module

errors = pack_module("errors")
ROOTS = ["/home/my user/ComfyUI", "C:\\ComfyUI"]


@pytest.mark.parametrize(
    ("sentence", "shown"),
    [
        ("x was not found in /home/my user/ComfyUI/models/hybridbooth, /data/a/clip_vision; put it there",
         "x was not found in models/hybridbooth, a/clip_vision; put it there"),
        ("the folder /home/my user/ComfyUI cannot be read", "the folder this ComfyUI cannot be read"),
        ("C:\\ComfyUI\\models\\embeddings\\a.safetensors is damaged", "models\\embeddings\\a.safetensors is damaged"),
        ("D:\\data\\more\\probes\\p.safetensors is damaged", "probes\\p.safetensors is damaged"),
        ("save https://huggingface.co/openai/clip/resolve/main/model.safetensors there",
         "save https://huggingface.co/openai/clip/resolve/main/model.safetensors there"),
        ("expected 1/2, a cat and/or a dog, found models/loras/x", "expected 1/2, a cat and/or a dog, found models/loras/x"),
        ("'/var/lib/some/where/file.txt' is in the way", "'where/file.txt' is in the way"),
    ],
)  # fmt: skip
def test_without_folders(sentence: str, shown: str):
    assert errors.without_folders(sentence, ROOTS) == shown


def test_the_panel_shows_no_class_path():
    assert f"{errors.HybridBoothError.__module__}.{errors.HybridBoothError.__qualname__}" == "builtins.HybridBoothError"
