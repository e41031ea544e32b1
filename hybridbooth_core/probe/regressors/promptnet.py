"""The paper's regressor: a copy of the denoiser's encoder half that reads a reference image's latents and its merged features.

Based on ProFusion's PromptNet, with three changes: it cross-attends to merged CLIP and DINO tokens instead of CLIP alone (HybridBooth);
it gets clean latents at time 0 instead of noisy ones, so the embeddings are computed once; and n learned queries read the pooled stages,
where one convolution would need 189 M parameters for five tokens at Stable Diffusion 1.5's size.

Axes: B images, C h w latents, L feature tokens, d embedding width, n predicted tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from einops import rearrange
from torch import Tensor, nn

from .blocks import CrossAttention, Downsample, ResBlock, SpatialTransformer, TransformerBlock, timestep_embedding


class PromptNet(nn.Module):
    """Predicts token embeddings from latents and features. The defaults are Stable Diffusion 1.5's sizes.

    Args:
        num_tokens, width: n and d.
        channels: channels of the finest level; `multipliers` scale them per level.
        depth: residual blocks per level.
        heads: attention heads.
        attention_levels: number of levels with transformers, starting at the finest.
        latent_channels: C.
        pooled: channels that each stage is projected to before the head.
    """

    reads_latents = True

    def __init__(
        self,
        num_tokens: int,
        width: int,
        channels: int = 320,
        multipliers: Sequence[int] = (1, 2, 4, 4),
        depth: int = 2,
        heads: int = 8,
        attention_levels: int = 3,
        latent_channels: int = 4,
        pooled: int = 128,
    ):
        super().__init__()
        if not (1 <= len(multipliers) <= 8 and 1 <= depth <= 8):
            raise ValueError(f"expected 1 to 8 levels of 1 to 8 blocks, found {len(multipliers)} of {depth}")
        self.channels = channels
        time = 4 * channels
        self.time_embed = nn.Sequential(nn.Linear(channels, time), nn.SiLU(), nn.Linear(time, time))
        blocks: list[nn.Module] = [nn.ModuleList([nn.Conv2d(latent_channels, channels, 3, padding=1)])]
        self.stage_ends = [0]  # indices into input_blocks whose outputs are pooled
        stage_channels, current = [channels], channels
        for level, multiplier in enumerate(multipliers):
            for _ in range(depth):
                layers: list[nn.Module] = [ResBlock(current, channels * multiplier, time)]
                current = channels * multiplier
                if level < attention_levels:
                    layers.append(SpatialTransformer(current, width, heads))
                blocks.append(nn.ModuleList(layers))
            self.stage_ends.append(len(blocks) - 1)
            stage_channels.append(current)
            if level < len(multipliers) - 1:
                blocks.append(nn.ModuleList([Downsample(current)]))
        self.input_blocks = nn.ModuleList(blocks)
        self.middle_block = nn.ModuleList(
            [ResBlock(current, current, time), SpatialTransformer(current, width, heads), ResBlock(current, current, time)]
        )
        levels = len(multipliers)
        strides = [2 ** (levels - 1), *(2 ** (levels - 1 - level) for level in range(levels)), 1]
        self.pool = nn.ModuleList(nn.Conv2d(c, pooled, s, stride=s) for c, s in zip([*stage_channels, current], strides, strict=True))
        self.head = QueryHead(num_tokens, pooled * len(strides), width)

    def forward(self, features: Tensor, latents: Tensor) -> Tensor:
        """f [B, L, d] and clean reference latents [B, C, h, w] to outputs [B, n, d]."""
        t = torch.zeros(len(latents), device=latents.device)
        embedding = self.time_embed(timestep_embedding(t, self.channels).to(latents.dtype))
        h, stages = latents, []
        for index, block in enumerate(self.input_blocks):
            h = _run(block, h, embedding, features)
            if index in self.stage_ends:
                stages.append(h)
        stages.append(_run(self.middle_block, h, embedding, features))
        pooled = [pool(stage) for pool, stage in zip(self.pool, stages, strict=True)]
        return self.head(rearrange(torch.cat(pooled, 1), "b c h w -> b (h w) c"))

    def refined_layers(self) -> list[nn.Linear]:
        """Q, K and V of every cross-attention to the features."""
        blocks = [module for module in self.modules() if isinstance(module, TransformerBlock)]
        return [layer for block in blocks for layer in (block.attn2.to_q, block.attn2.to_k, block.attn2.to_v)]

    def blocks(self) -> list[nn.Module]:
        """Residual blocks and transformers, for activation checkpointing; none contains another."""
        return [module for module in self.modules() if isinstance(module, ResBlock | SpatialTransformer)]

    def load_denoiser(self, state: dict[str, Tensor]) -> int:
        """Copies a denoiser's encoder half from its state dict in LDM layout; returns the number of tensors copied.

        Raises:
            ValueError: a tensor of the encoder half is missing or has another shape.
        """
        own = {k: v for k, v in self.state_dict().items() if k.split(".")[0] in ("time_embed", "input_blocks", "middle_block")}
        for key, value in own.items():
            if key not in state or state[key].shape != value.shape:
                found = list(state[key].shape) if key in state else "nothing"
                raise ValueError(f"expected {key} {list(value.shape)} in the denoiser, found {found}; use its sizes for the regressor")
        self.load_state_dict({key: state[key].float() for key in own}, strict=False)
        return len(own)


def _run(block: nn.Module, h: Tensor, embedding: Tensor, features: Tensor) -> Tensor:
    for layer in block.children():
        if isinstance(layer, ResBlock):
            h = layer(h, embedding)
        elif isinstance(layer, SpatialTransformer):
            h = layer(h, features)
        else:
            h = layer(h)
    return h


class QueryHead(nn.Module):
    """Attention of n learned queries to tokens [B, N, C]; outputs [B, n, d] of about unit standard deviation."""

    def __init__(self, num_tokens: int, channels: int, width: int):
        super().__init__()
        self.queries = nn.Parameter(torch.randn(num_tokens, width))
        self.norm = nn.LayerNorm(channels)
        self.attention = CrossAttention(width, channels, heads=max(h for h in (1, 2, 4, 8) if width % h == 0))
        self.mix = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.out_norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, width)
        nn.init.normal_(self.out.weight, std=0.3 / math.sqrt(width))

    def forward(self, tokens: Tensor) -> Tensor:
        queries = self.queries.to(tokens).expand(len(tokens), -1, -1)
        x = queries + self.attention(queries, self.norm(tokens))
        x = x + self.mix(x)
        return self.out(self.out_norm(x))
