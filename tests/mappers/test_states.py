"""The hidden states that ELITE reads, against hooks on the network."""

from __future__ import annotations

import pytest
import torch

from hybridbooth_core.encoders.clip_vit import ClipSize, new_clip_vision

SMALL = ClipSize("small", "none", patch=8, layers=3, width=32, heads=4, text_width=16, text_heads=2, projection=16, image=32)


def test_states_are_the_layers_outputs():
    pytest.importorskip("transformers")
    vision = new_clip_vision(SMALL).eval()
    captured: list[torch.Tensor] = []
    vision.network.vision_model.pre_layrnorm.register_forward_hook(lambda module, args, output: captured.append(output))
    for layer in vision.network.vision_model.encoder.layers:
        layer.register_forward_hook(lambda module, args, output: captured.append(output[0] if isinstance(output, tuple) else output))
    states = vision.states(torch.rand(2, 32, 32, 3), (3, 0, 2, 1))
    assert states.shape == (2, 4, 17, 32)
    for state, wanted in zip(states.unbind(1), (captured[3], captured[0], captured[2], captured[1]), strict=True):
        torch.testing.assert_close(state, wanted)
