"""Stable Diffusion 1.5 checkpoints with seeded random weights: the stock layout at any size, written from the layout's own rules.

Weights keep the variance of what they multiply, so that float16 neither overflows nor loses everything; no two layers are alike, so that
tensors in each other's places show. The smallest file that stock ComfyUI loads whole is the default: one level of the denoiser, the full
CLIP-L text encoder and a TAESD, 304 MB in float16. `FULL` gives the true size, 2 GB.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

CHANNELS, TIME, LATENT, WIDTH = 320, 1280, 4, 768
ATTENTION_LEVELS = 3  # the coarsest of four levels has none
WORDS, POSITIONS, TEXT_LAYERS, TEXT_INNER = 49408, 77, 12, 3072
WORD_NORM = 0.4  # of a word of the true model

Shapes = Iterator[tuple[str, tuple[int, ...]]]


@dataclass(frozen=True)
class Layout:
    """The free parts of the layout: channels of each level as multiples of 320, residual blocks a level, channels and words read."""

    levels: tuple[int, ...] = (1,)
    res_blocks: int = 1
    reads_channels: int = LATENT
    reads_width: int = WIDTH


SMALLEST, FULL, INPAINTING = Layout(), Layout((1, 2, 4, 4), 2), Layout(reads_channels=9)


def write_checkpoint(path: Path, seed: int = 0, layout: Layout = SMALLEST, dtype: torch.dtype = torch.float16) -> Path:
    """Write a whole checkpoint (about 5 s for the smallest) and return its path."""
    save_file({key: tensor.to(dtype) for key, tensor in checkpoint_tensors(seed, layout)}, path)
    return path


def checkpoint_tensors(seed: int = 0, layout: Layout = SMALLEST) -> Iterator[tuple[str, Tensor]]:
    """The tensors of a checkpoint one by one, float32, under their keys; a function of seed and layout."""
    generator = torch.Generator().manual_seed(seed)
    parts = {
        "model.diffusion_model.": unet_shapes(layout),
        "cond_stage_model.transformer.text_model.": text_shapes(),
        "first_stage_model.": taesd_shapes(),
    }
    for prefix, shapes in parts.items():
        for key, shape in shapes:
            yield prefix + key, _weights(key, shape, generator)
    yield "first_stage_model.vae_scale", torch.tensor(0.18215)
    yield "first_stage_model.vae_shift", torch.tensor(0.0)


def _weights(key: str, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    drawn = torch.randn(shape, generator=generator)
    if key.endswith("token_embedding.weight"):
        return drawn * WORD_NORM / WIDTH**0.5
    if key.endswith("position_embedding.weight"):
        return drawn * 0.5 * WORD_NORM / WIDTH**0.5
    if len(shape) == 1:
        return 0.05 * drawn + (1 if key.endswith(".weight") else 0)  # of a norm, or a bias
    last_of_a_sum = (".out_layers.3.", ".to_out.0.", ".net.2.", ".out_proj.", ".fc2.", ".proj_out.", ".conv.4.")
    gain = 0.5 if any(part in key for part in last_of_a_sum) else 1.0
    if key.startswith("taesd"):
        gain *= 1.3  # what its rectifiers take away, and so much that latents have the spread of true ones
    return gain * drawn / (drawn[0].numel() ** 0.5)


def unet_shapes(layout: Layout = SMALLEST) -> Shapes:
    """The denoiser's parameters in LDM's layout."""
    widths = [CHANNELS * level for level in layout.levels]
    yield from _affine("time_embed.0", TIME, CHANNELS)
    yield from _affine("time_embed.2", TIME, TIME)
    yield from _affine("input_blocks.0.0", CHANNELS, layout.reads_channels, 3, 3)
    channels, skips, block = CHANNELS, [CHANNELS], 1
    for level, width in enumerate(widths):
        for _ in range(layout.res_blocks):
            yield from _level_block(f"input_blocks.{block}", channels, width, level, layout)
            channels, block = width, block + 1
            skips.append(channels)
        if level < len(widths) - 1:
            yield from _affine(f"input_blocks.{block}.0.op", channels, channels, 3, 3)
            skips.append(channels)
            block += 1
    yield from _residual("middle_block.0", channels, channels)
    yield from _transformer("middle_block.1", channels, layout.reads_width)
    yield from _residual("middle_block.2", channels, channels)
    block = 0
    for level, width in reversed(list(enumerate(widths))):
        for index in range(layout.res_blocks + 1):
            yield from _level_block(f"output_blocks.{block}", channels + skips.pop(), width, level, layout)
            channels = width
            if level and index == layout.res_blocks:
                place = 2 if level < ATTENTION_LEVELS else 1
                yield from _affine(f"output_blocks.{block}.{place}.conv", width, width, 3, 3)
            block += 1
    yield from _affine("out.0", channels)
    yield from _affine("out.2", LATENT, channels, 3, 3)


def _level_block(name: str, reads: int, writes: int, level: int, layout: Layout) -> Shapes:
    yield from _residual(f"{name}.0", reads, writes)
    if level < ATTENTION_LEVELS:
        yield from _transformer(f"{name}.1", writes, layout.reads_width)


def _residual(name: str, reads: int, writes: int) -> Shapes:
    yield from _affine(f"{name}.in_layers.0", reads)
    yield from _affine(f"{name}.in_layers.2", writes, reads, 3, 3)
    yield from _affine(f"{name}.emb_layers.1", writes, TIME)
    yield from _affine(f"{name}.out_layers.0", writes)
    yield from _affine(f"{name}.out_layers.3", writes, writes, 3, 3)
    if reads != writes:
        yield from _affine(f"{name}.skip_connection", writes, reads, 1, 1)


def _transformer(name: str, channels: int, context: int) -> Shapes:
    yield from _affine(f"{name}.norm", channels)
    yield from _affine(f"{name}.proj_in", channels, channels, 1, 1)
    block = f"{name}.transformer_blocks.0"
    for attention, width in (("attn1", channels), ("attn2", context)):
        for projection, reads in (("to_q", channels), ("to_k", width), ("to_v", width)):
            yield f"{block}.{attention}.{projection}.weight", (channels, reads)
        yield from _affine(f"{block}.{attention}.to_out.0", channels, channels)
    yield from _affine(f"{block}.ff.net.0.proj", 8 * channels, channels)
    yield from _affine(f"{block}.ff.net.2", channels, 4 * channels)
    for norm in ("norm1", "norm2", "norm3"):
        yield from _affine(f"{block}.{norm}", channels)
    yield from _affine(f"{name}.proj_out", channels, channels, 1, 1)


def text_shapes() -> Shapes:
    """CLIP-L's text encoder; stock loaders take no smaller one."""
    yield "embeddings.token_embedding.weight", (WORDS, WIDTH)
    yield "embeddings.position_embedding.weight", (POSITIONS, WIDTH)
    for index in range(TEXT_LAYERS):
        layer = f"encoder.layers.{index}"
        for projection in ("q_proj", "k_proj", "v_proj", "out_proj"):
            yield from _affine(f"{layer}.self_attn.{projection}", WIDTH, WIDTH)
        yield from _affine(f"{layer}.mlp.fc1", TEXT_INNER, WIDTH)
        yield from _affine(f"{layer}.mlp.fc2", WIDTH, TEXT_INNER)
        yield from _affine(f"{layer}.layer_norm1", WIDTH)
        yield from _affine(f"{layer}.layer_norm2", WIDTH)
    yield from _affine("final_layer_norm", WIDTH)


def taesd_shapes() -> Shapes:
    """The tiny autoencoder: three halvings down, three doublings up, 64 channels throughout."""
    encoder = {0: 3, 14: 64} | dict.fromkeys((2, 6, 10), 64)
    decoder = {1: LATENT, 19: 64} | dict.fromkeys((7, 12, 17), 64)
    writes = {("encoder", 14): LATENT, ("decoder", 19): 3}
    blocks = {"encoder": (1, 3, 4, 5, 7, 8, 9, 11, 12, 13), "decoder": (3, 4, 5, 8, 9, 10, 13, 14, 15, 18)}
    for side, convolutions, resampling in (("encoder", encoder, (2, 6, 10)), ("decoder", decoder, (7, 12, 17))):
        for index, reads in convolutions.items():
            shapes = list(_affine(f"taesd_{side}.{index}", writes.get((side, index), 64), reads, 3, 3))
            yield from shapes[:1] if index in resampling else shapes  # these have no bias
        for index in blocks[side]:
            for part in (0, 2, 4):
                yield from _affine(f"taesd_{side}.{index}.conv.{part}", 64, 64, 3, 3)


def _affine(name: str, *shape: int) -> Shapes:
    yield f"{name}.weight", shape
    yield f"{name}.bias", shape[:1]
