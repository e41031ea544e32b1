"""Untrained probes: sizes inferred from a denoiser, and a promptnet initialised from that denoiser's encoder half."""

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
    """The sizes of a promptnet that fits the encoder half of a denoiser, as keyword arguments of `PromptNet`.

    Args:
        denoiser: a state dict in LDM layout (`ldm_layout`) of a denoiser with Stable Diffusion 1.5's blocks, of any size.
        heads: number of attention heads, 8 for SD1.5; the state dict does not contain it.
    Raises:
        UserError: the denoiser has other blocks, or levels of unequal depth.
    """
    parts: dict[int, set[str]] = {}
    for key in denoiser:
        if match := _BLOCK.match(key):
            parts.setdefault(int(match[1]), set()).add(match[3])
    first = denoiser.get("input_blocks.0.0.weight")
    if first is None or first.ndim != 4:
        raise UserError("expected a Stable Diffusion 1.5 denoiser, found other weights; use a Stable Diffusion 1.5 checkpoint")
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
            f"expected a denoiser with levels of equal depth and attention on the finest ones, found depths "
            f"{[len(level) for level in levels]}; use the resampler for this model"
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
    """An untrained probe. Equal seeds give equal probes; the global random state does not change.

    Args:
        denoiser: a state dict in LDM layout, which initialises a promptnet's encoder half; a resampler ignores it.
    Raises:
        UserError: the configuration is inconsistent.
        ValueError: the denoiser's sizes differ from the configuration's.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        probe = Probe(config)
    if config.regressor == "promptnet" and denoiser is not None:
        probe.regressor.load_denoiser(dict(denoiser))  # type: ignore[operator]
    return probe
