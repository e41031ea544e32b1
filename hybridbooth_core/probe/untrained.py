"""A probe before its training: sizes told from the denoiser it is for, and a promptnet that starts from that denoiser's encoder half."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..errors import UserError
from .probe import Probe, ProbeConfig

UNTRAINED = "nothing yet (untrained)"
_BLOCK = re.compile(r"input_blocks\.(\d+)\.(\d+)\.(\w+)")


def promptnet_sizes(denoiser: Mapping[str, Tensor], heads: int) -> dict[str, Any]:
    """The sizes of a promptnet that can take over the encoder half of a denoiser.

    Args:
        denoiser: a state dict in LDM layout (`ldm_layout`); Stable Diffusion 1.5's family at any size.
        heads: of its attentions, which no tensor tells: 8 for SD1.5.
    Raises:
        UserError: it has no such encoder half, or one whose levels differ in depth.
    """
    parts: dict[int, set[str]] = {}
    for key in denoiser:
        if match := _BLOCK.match(key):
            parts.setdefault(int(match[1]), set()).add(match[3])
    first = denoiser.get("input_blocks.0.0.weight")
    if first is None or first.ndim != 4:
        raise UserError("expected a denoiser of Stable Diffusion 1.5's family, found other weights; wire a Stable Diffusion 1.5 checkpoint")
    channels, levels = first.shape[0], [[]]
    for index in range(1, max(parts) + 1):
        if "op" in parts.get(index, ()):
            levels.append([])
        else:
            levels[-1].append(index)
    depths = {len(level) for level in levels}
    attentive = [all("transformer_blocks" in parts[index] for index in level) for level in levels]
    if len(depths) != 1 or attentive != sorted(attentive, reverse=True):
        raise UserError(
            f"expected a denoiser with equally deep levels and attention on the finest, found depths {[len(level) for level in levels]}; "
            "choose the resampler for this model"
        )
    return {
        "channels": channels,
        "multipliers": [denoiser[f"input_blocks.{level[-1]}.0.out_layers.3.weight"].shape[0] // channels for level in levels],
        "depth": depths.pop(),
        "heads": heads,
        "attention_levels": sum(attentive),
        "latent_channels": first.shape[1],
    }


def new_probe(config: ProbeConfig, denoiser: Mapping[str, Tensor] | None = None, seed: int = 0) -> Probe:
    """An untrained probe of a configuration. Equal seeds make equal probes; the global random state stays as it was.

    Args:
        denoiser: a state dict in LDM layout; a promptnet takes its encoder half from it, a resampler needs none.
    Raises:
        UserError: the configuration does not fit together.
        ValueError: the denoiser does not have the sizes that the configuration promises.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        probe = Probe(config)
    if config.regressor == "promptnet" and denoiser is not None:
        probe.regressor.load_denoiser(dict(denoiser))  # type: ignore[operator]
    return probe
