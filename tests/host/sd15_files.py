"""What the workflows for Stable Diffusion 1.5 need beside a checkpoint, with seeded random weights; and photos."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from hybridbooth_core.encoders.catalogue import CLIP_L, DINOV2_S, TEXT_PROJECTION
from hybridbooth_core.probe.probe import Probe, ProbeConfig

from .checkpoints import CHANNELS, WORD_NORM, Shapes, unet_shapes

PHOTOS = Path(__file__).parents[1] / "data" / "dreambooth"
HINT = ((16, 3), (16, 16), (32, 16), (32, 32), (96, 32), (96, 96), (256, 96), (CHANNELS, 256))


def write_controlnet(path: Path, seed: int = 1) -> Path:
    """A ControlNet in its original layout, for the smallest denoiser; 26 MB in float16."""
    generator = torch.Generator().manual_seed(seed)
    save_file({key: _random(key, shape, generator) for key, shape in controlnet_shapes()}, path)
    return path


def controlnet_shapes() -> Shapes:
    """A copy of the denoiser's encoder half and middle, a reader of the hint, and a convolution for each place where it adds."""
    places = set()
    for key, shape in unet_shapes():
        if key.startswith(("time_embed", "input_blocks", "middle_block")):
            yield key, shape
            if key.startswith("input_blocks"):
                places.add(int(key.split(".")[1]))
    for index, (writes, reads) in enumerate(HINT):
        yield f"input_hint_block.{2 * index}.weight", (writes, reads, 3, 3)
        yield f"input_hint_block.{2 * index}.bias", (writes,)
    for name in [*(f"zero_convs.{place}.0" for place in sorted(places)), "middle_block_out.0"]:
        yield f"{name}.weight", (CHANNELS, CHANNELS, 1, 1)
        yield f"{name}.bias", (CHANNELS,)


def write_encoders(folder: Path, seed: int = 2) -> list[Path]:
    """CLIP ViT-L/14 without its text encoder (0.6 GB in float16) and DINOv2 ViT-S/14, under the names that a download gets."""
    import timm

    from hybridbooth_core.encoders.clip_vit import new_clip_vision

    generator = torch.Generator().manual_seed(seed)
    with torch.device("meta"):
        clip = dict(new_clip_vision().network.state_dict()) | {TEXT_PROJECTION: torch.empty(768, 768)}
        dino = timm.create_model(DINOV2_S.id.split("/")[1], pretrained=False, num_classes=0).state_dict()
    paths = [folder / CLIP_L.saved_as, folder / DINOV2_S.saved_as]
    for path, tensors in zip(paths, (clip, dino), strict=True):
        shapes = {key: tuple(tensor.shape) for key, tensor in tensors.items() if tensor.is_floating_point()}
        save_file({key: _random(key, shape, generator) for key, shape in shapes.items()}, path)
    return paths


def write_probe(path: Path, seed: int = 3) -> Path:
    """An untrained resampler of few layers for Stable Diffusion 1.5."""
    config = ProbeConfig(
        width=768, clip=CLIP_L.id, clip_width=CLIP_L.width, dino=DINOV2_S.id, dino_width=DINOV2_S.width, regressor="resampler",
        sizes={"layers": 1, "heads": 8, "inner": 64}, embedding_norm=WORD_NORM, base_model="Stable Diffusion 1.5",
        trained_on="nothing: random weights for a test",
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        Probe(config).save(path)
    return path


def write_photos(folder: Path, size: int = 256) -> list[str]:
    """Three photos of a cat with the subject painted as stock MaskEditor saves it: alpha 0. Returns their names."""
    names = []
    for number in range(3):
        with Image.open(PHOTOS / "cat" / f"{number:02d}.jpg") as photo:
            image = photo.convert("RGB").resize((size, size))
        rows, columns = torch.meshgrid(torch.linspace(-1, 1, size), torch.linspace(-1, 1, size), indexing="ij")
        painted = (rows**2 + columns**2).sqrt() < 0.7
        alpha = Image.fromarray(((~painted) * 255).byte().numpy())
        image.putalpha(alpha)
        names.append(f"cat{number}.png")
        image.save(folder / names[-1])
    return names


def _random(key: str, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Weights in float16 that keep the variance of what they multiply. Large ones repeat what was drawn: drawing is slow."""
    count = math.prod(shape)
    drawn = torch.randn(min(count, 1 << 18), generator=generator)
    if len(shape) < 2:
        scale = (("norm" in key and key.endswith("weight")) or key.endswith("gamma")) + 0.05 * drawn
        return scale.half().reshape(shape)
    scaled = (drawn / math.sqrt(math.prod(shape[1:]))).half()
    return scaled.repeat(-(-count // len(scaled)))[:count].reshape(shape)
