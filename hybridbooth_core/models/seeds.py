"""Every source of random numbers: a function of the user's seed and of numbers such as step and row, never of what was drawn before.

So a run that is resumed, split into smaller batches or shared by several processes draws the same numbers. All generators are on the CPU,
which gives the same numbers on every machine. Each purpose keeps its formula, since files of earlier versions are reproduced bit for bit.
"""

from __future__ import annotations

import hashlib
import zlib

import torch

LIMIT = 1 << 63  # of torch's seeds; ComfyUI's can be larger


def new_generator(seed: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator for a seed of any size. On the CPU the lower 32 bits decide."""
    return torch.Generator(device).manual_seed(seed % LIMIT)


def image_generator(seed: int, row: int) -> torch.Generator:
    """The initial noise of image number `row`."""
    return new_generator(seed * 1_000_003 + row)


def sampler_generator(seed: int, row: int) -> torch.Generator:
    """The noise that an ancestral sampler adds to image number `row` at its steps."""
    return new_generator(seed * 1_000_003 + row + 500_009)


def refine_generator(seed: int, step: int) -> torch.Generator:
    """Times and noise of a refinement step."""
    return new_generator(seed * 1009 + step)


def refine_validation_generator(seed: int) -> torch.Generator:
    """Times and noise of a refinement's validation set."""
    return new_generator(seed + 7919)


def method_generator(seed: int, step: int) -> torch.Generator:
    """All that a step of a method's training draws (DreamBooth, textual inversion ...)."""
    return new_generator(seed * 1_000_003 + step)


def row_generator(seed: int, step: int, row: int) -> torch.Generator:
    """All that one row of one step of a probe's training draws; numbers below 0 serve validation and whole batches."""
    mixed = seed * 0x9E37_79B9_7F4A_7C15 + step * 0xBF58_476D_1CE4_E5B9 + row * 0x94D0_49BB_1331_11EB + 0x2545_F491
    mixed &= 0xFFFF_FFFF_FFFF_FFFF  # the finaliser of splitmix64 follows
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58_476D_1CE4_E5B9) & 0xFFFF_FFFF_FFFF_FFFF
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D0_49BB_1331_11EB) & 0xFFFF_FFFF_FFFF_FFFF
    return new_generator((mixed ^ (mixed >> 31)) & 0xFFFF_FFFF)


def stage_generator(seed: int, stage: str, step: int) -> torch.Generator:
    """All that one step of a stage of the miniature's training draws; on the default device, where that training runs."""
    mixed = (seed * 0x9E37_79B1) & 0xFFFF_FFFF
    return new_generator(mixed ^ (zlib.crc32(stage.encode()) << 20) ^ step, torch.get_default_device())


def prompt_seed(seed: int, subject: str, prompt: int) -> int:
    """The seed of an evaluation's images of one subject and prompt, which all methods share so that they are compared on equal noise."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{subject}/{prompt}".encode()).digest()[:4], "big")
