"""The published image encoders that probes use: their files on the hub, and how to recognise a copy under any name."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

SIZE, GRID = 224, 16
TOKENS = 1 + GRID * GRID
DINOV2_POSITIONS = 1 + 37 * 37  # of the published weights, made for 518 pixels
PROJECTION, TEXT_PROJECTION = "visual_projection.weight", "text_projection.weight"


@dataclass(frozen=True)
class EncoderFile:
    """One published file.

    Attributes:
        id: its repository on the Hugging Face hub, and its id in a probe's configuration.
        label: the name shown to users.
        revision, sha256, size: the pinned commit, and the file's hash and size in bytes.
        width: C of its tokens [B, 257, C]: the class token, then 16 x 16 patches row by row.
        signature: names and shapes of tensors that together identify the network.
        whole: tensors of the published file that partial copies, such as ComfyUI's CLIP vision files, may lack.
    """

    id: str
    label: str
    revision: str
    sha256: str
    size: int
    licence: str
    width: int
    signature: Mapping[str, tuple[int, ...]]
    whole: tuple[str, ...] = ()
    filename: str = "model.safetensors"

    @property
    def saved_as(self) -> str:
        """The file name of a download."""
        return f"{self.id.split('/')[1]}.safetensors"

    @property
    def address(self) -> str:
        """The download URL."""
        return f"{hub_address()}/{self.id}/resolve/{self.revision}/{self.filename}"


def hub_address() -> str:
    """The hub's URL: `HF_ENDPOINT` if set, else https://huggingface.co."""
    return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


def _dinov2(letter: str, name: str, width: int, depth: int, revision: str, sha256: str, size: int) -> EncoderFile:
    signature = {
        "pos_embed": (1, DINOV2_POSITIONS, width),
        "patch_embed.proj.weight": (width, 3, 14, 14),
        f"blocks.{depth - 1}.ls1.gamma": (width,),
    }
    return EncoderFile(
        f"timm/vit_{name}_patch14_dinov2.lvd142m", f"DINOv2 ViT-{letter}/14", revision, sha256, size, "Apache-2.0", width,
        MappingProxyType(signature),
    )  # fmt: skip


CLIP_L = EncoderFile(
    "openai/clip-vit-large-patch14",
    "CLIP ViT-L/14",
    "32bd64288804d66eefd0ccbe215aa642df71cc41",
    "a2bf730a0c7debf160f7a6b50b3aaf3703e7e88ac73de7a314903141db026dcb",
    1_710_540_580,
    "MIT; its model card calls deployment out of scope",
    1024,
    MappingProxyType(
        {
            "vision_model.embeddings.position_embedding.weight": (TOKENS, 1024),
            "vision_model.embeddings.patch_embedding.weight": (1024, 3, 14, 14),
            "vision_model.encoder.layers.23.layer_norm1.weight": (1024,),
        }
    ),
    whole=(PROJECTION, TEXT_PROJECTION),
)
DINOV2_L = _dinov2(
    "L", "large", 1024, 24, "4741e1cafbf45415e77074bb0cb42dba76c8684a",
    "0424a5d1b515278cba3c6640ccbeaacc41de59d3a93df0dd5e494285eea2b355", 1_217_502_758,
)  # fmt: skip
DINOV2_B = _dinov2(
    "B", "base", 768, 12, "4685c99dabffe5affac90bd99dbffd25801ae58d",
    "55cbb5d887b336d430e649c277b85a1429e724871f9d02ac16203235886d8c7b", 346_334_872,
)  # fmt: skip
DINOV2_S = _dinov2(
    "S", "small", 384, 12, "4610ca143709d58a633b6397a74412c2c3842454",
    "04d27f3400d059fc0cfd7d17dd1909a75bf3ea8fb3eeb48b97cb99e57ee20081", 88_240_510,
)  # fmt: skip
CATALOGUE = {entry.id: entry for entry in (CLIP_L, DINOV2_L, DINOV2_B, DINOV2_S)}
