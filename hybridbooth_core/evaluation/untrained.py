"""Encoders with random weights, to test a run without downloads. The resulting metrics are meaningless."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import torch
from torch import Tensor

from .encoders import CLIP_SIZES, Clip, ClipSize, Dino, Encoders, Lpips, check_packages, new_dino, new_lpips

START, END, LENGTH = 49406, 49407, 77


def untrained_encoders(sizes: Sequence[ClipSize] = CLIP_SIZES, seed: int = 0) -> Encoders:
    """All encoders with seeded random weights; UserError if a package of the extra `evaluate` is missing."""
    check_packages()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        clips = {size.key: new_clip(size) for size in sizes}
        return Encoders(Dino(new_dino()), clips, Lpips(new_lpips()), untrained=True).to("cpu")


def new_clip(size: ClipSize) -> Clip:
    """A CLIP model with random weights, and a tokenizer that needs no vocabulary file: a word's id is its checksum."""
    from transformers import CLIPConfig, CLIPModel

    text = {
        "hidden_size": size.text_width, "intermediate_size": 4 * size.text_width, "num_hidden_layers": 12,
        "num_attention_heads": size.text_heads, "vocab_size": END + 1, "bos_token_id": START, "eos_token_id": END, "pad_token_id": END,
    }  # fmt: skip
    return Clip(CLIPModel(CLIPConfig(text_config=text, vision_config=size.vision, projection_dim=size.projection)), checksum_tokens)


def checksum_tokens(prompts: Sequence[str]) -> dict[str, Tensor]:
    """`input_ids` and `attention_mask` [N, 77] of N prompts, where a word's id is its checksum."""
    rows = [[START, *(zlib.crc32(word.encode()) % START for word in prompt.split()[: LENGTH - 2]), END] for prompt in prompts]
    ids = torch.tensor([row + [END] * (LENGTH - len(row)) for row in rows])
    lengths = torch.tensor([len(row) for row in rows])
    return {"input_ids": ids, "attention_mask": (torch.arange(LENGTH) < lengths[:, None]).long()}
