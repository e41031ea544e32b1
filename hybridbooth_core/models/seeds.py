"""Random generators, each a function of the user's seed and of indices such as step and row.

They do not depend on earlier draws, so a run that is resumed, uses smaller batches or runs in several processes draws the same numbers. All
but `stage_generator` are on the CPU, for equal numbers on every machine. The formulas are fixed: they reproduce earlier versions.
"""

from __future__ import annotations

import hashlib
import zlib

import torch

LIMIT = 1 << 63  # torch's limit; ComfyUI's seeds can be larger


def new_generator(seed: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator for a seed of any size. CPU generators use only its lower 32 bits."""
    return torch.Generator(device).manual_seed(seed % LIMIT)


def image_generator(seed: int, row: int) -> torch.Generator:
    """For the initial noise of image `row`."""
    return new_generator(seed * 1_000_003 + row)


def sampler_generator(seed: int, row: int) -> torch.Generator:
    """For the noise that an ancestral sampler adds to image `row`."""
    return new_generator(seed * 1_000_003 + row + 500_009)


def refine_generator(seed: int, step: int) -> torch.Generator:
    """For times and noise of a refinement step."""
    return new_generator(seed * 1009 + step)


def refine_validation_generator(seed: int) -> torch.Generator:
    """For times and noise of a refinement's validation set."""
    return new_generator(seed + 7919)


def method_generator(seed: int, step: int) -> torch.Generator:
    """For a training step of a method such as DreamBooth or textual inversion."""
    return new_generator(seed * 1_000_003 + step)


def row_generator(seed: int, step: int, row: int) -> torch.Generator:
    """For one row of a training step of a probe; negative numbers are used by validation and whole batches."""
    mixed = seed * 0x9E37_79B9_7F4A_7C15 + step * 0xBF58_476D_1CE4_E5B9 + row * 0x94D0_49BB_1331_11EB + 0x2545_F491
    mixed &= 0xFFFF_FFFF_FFFF_FFFF  # the finaliser of splitmix64 follows
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58_476D_1CE4_E5B9) & 0xFFFF_FFFF_FFFF_FFFF
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D0_49BB_1331_11EB) & 0xFFFF_FFFF_FFFF_FFFF
    return new_generator((mixed ^ (mixed >> 31)) & 0xFFFF_FFFF)


def stage_generator(seed: int, stage: str, step: int) -> torch.Generator:
    """For a step of a training stage of the miniature, on torch's default device, where that training runs."""
    mixed = (seed * 0x9E37_79B1) & 0xFFFF_FFFF
    return new_generator(mixed ^ (zlib.crc32(stage.encode()) << 20) ^ step, torch.get_default_device())


def drawing_seed(seed: int, number: int) -> int:
    """The seed of the initial noise of all scenes of one description, which a base model draws for its own training set."""
    return _hashed(f"drawing/{seed}/{number}")


def drawing_generator(seed: int, number: int) -> torch.Generator:
    """For what a description says."""
    return new_generator(_hashed(f"description/{seed}/{number}"))


def _hashed(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


def prompt_seed(seed: int, subject: str, prompt: int) -> int:
    """The seed of an evaluation's images of one subject and prompt, which all methods share so that they are compared on equal noise."""
    return _hashed(f"{seed}/{subject}/{prompt}")
