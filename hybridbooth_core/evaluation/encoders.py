"""The four networks that the protocol looks with: DINO ViT-S/16, CLIP ViT-B/32 and ViT-L/14, and LPIPS on VGG16.

All are read from `.safetensors`, from a folder or the cache of the Hugging Face hub; nothing is unpickled, and nothing is fetched
unless that is asked for. LPIPS is its authors' own package, whose calibration weights come with it; only its VGG16 trunk is read here.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL.Image import Image
from torch import Tensor, nn

from ..encoders.clip_vit import CLIP_B32, CLIP_L14, ClipSize
from ..errors import UserError
from ..files.safetensors import read_header, read_tensors
from ..models.fingerprint import weights_fingerprint
from .preprocess import Preprocess, for_clip, for_dino, for_lpips

BATCH = 16
MAX_BYTES = 4 << 30
Tokenize = Callable[[Sequence[str]], Mapping[str, Tensor]]  # prompts to `input_ids` and `attention_mask`, each [N, T]


CLIP_SIZES = (CLIP_B32, CLIP_L14)
DINO_HUB, VGG_HUB = "timm/vit_small_patch16_224.dino", "timm/vgg16.tv_in1k"


class Dino(nn.Module):
    """Images to the class token of the last layer, [N, 384]."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network
        self.preprocess = for_dino()

    def forward(self, images: Sequence[Image]) -> Tensor:
        return _in_batches(self.network, images, self.preprocess, _device(self))


class Clip(nn.Module):
    """Images and prompts to the common space of a CLIP, [N, 512] or [N, 768]."""

    def __init__(self, network: Any, tokenize: Tokenize):
        super().__init__()
        self.network, self.tokenize = network, tokenize
        self.preprocess = for_clip()

    def forward(self, images: Sequence[Image]) -> Tensor:
        return _in_batches(lambda pixels: _pooled(self.network.get_image_features(pixels)), images, self.preprocess, _device(self))

    @torch.no_grad()
    def texts(self, prompts: Sequence[str]) -> Tensor:
        tokens = {key: value.to(_device(self)) for key, value in self.tokenize(prompts).items()}
        return _pooled(self.network.get_text_features(tokens["input_ids"], tokens["attention_mask"])).float().cpu()


class Lpips(nn.Module):
    """The distance of two images [3, H, W] of one size in -1..1: 0 for the same image (LPIPS 0.1 on VGG16)."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network
        self.preprocess = for_lpips()

    @torch.no_grad()
    def forward(self, a: Tensor, b: Tensor) -> float:
        return self.network(a[None].to(_device(self)), b[None].to(_device(self))).item()


@dataclass(frozen=True, eq=False)
class Encoders:
    """All of them. `clips` is by size, `b32` and `l14`; `untrained` means that their figures say nothing."""

    dino: Dino
    clips: Mapping[str, Clip]
    lpips: Lpips
    untrained: bool = False

    def networks(self) -> dict[str, nn.Module]:
        """Each under the name that results give it."""
        return {"dino_vits16": self.dino, **{f"clip_{key}": clip for key, clip in self.clips.items()}, "lpips_vgg16": self.lpips}

    def to(self, device: torch.device | str) -> Encoders:
        """Itself, frozen and on that device."""
        for network in self.networks().values():
            network.eval().requires_grad_(False).to(device)
        return self

    def fingerprints(self) -> dict[str, str]:
        """What the figures were computed with: equal for equal weights."""
        return {name: weights_fingerprint(network) for name, network in self.networks().items()}


def load_encoders(folder: Path | None = None, download: bool = False) -> Encoders:
    """The published weights.

    Args:
        folder: holds `clip-vit-base-patch32`, `clip-vit-large-patch14`, `vit_small_patch16_224.dino` and `vgg16.tv_in1k`, each as on
            the hub; None reads the hub's cache on this machine.
        download: fetch from the hub what its cache lacks.
    Raises:
        UserError: a file is missing, damaged, or of another network; or a package of the extra `evaluate` is missing.
    """
    check_packages()
    clips = {size.key: load_clip(size, _place(size.hub, folder, download)) for size in CLIP_SIZES}
    dino, vgg = (_place(hub, folder, download) / "model.safetensors" for hub in (DINO_HUB, VGG_HUB))
    return Encoders(load_dino(dino), clips, load_lpips(vgg)).to("cpu")


def check_packages() -> None:
    """UserError unless the packages of the extra `evaluate` are there."""
    try:
        import lpips  # noqa: F401
        import timm  # noqa: F401
        import transformers  # noqa: F401
    except ImportError as error:
        raise UserError(f'{error.name} is not installed; run: pip install "hybridbooth[evaluate]"') from error


def load_clip(size: ClipSize, source: Path) -> Clip:
    """A CLIPModel and its tokenizer from a folder; UserError if they are not there, or it is another CLIP."""
    from transformers import CLIPModel, CLIPTokenizer

    try:
        network: Any = CLIPModel.from_pretrained(source, use_safetensors=True, local_files_only=True).float()
        tokenizer: Any = CLIPTokenizer.from_pretrained(source, local_files_only=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise _missing(str(source), error) from error
    vision = network.config.vision_config
    found, wanted = (vision.patch_size, vision.num_hidden_layers, vision.hidden_size), (size.patch, size.layers, size.width)
    if found != wanted:
        raise UserError(f"expected patch, layers and width {wanted} of {size.hub}, found {found} in {source}; put that model there")
    return Clip(network, lambda prompts: tokenizer(list(prompts), padding=True, truncation=True, max_length=77, return_tensors="pt"))


def new_dino() -> nn.Module:
    """The layout of DINO ViT-S/16 without trained weights: 22 M parameters, [N, 3, 224, 224] to [N, 384]."""
    import timm

    return timm.create_model("vit_small_patch16_224.dino", pretrained=False, num_classes=0)


def new_lpips() -> nn.Module:
    """LPIPS 0.1 on VGG16 with its authors' calibration, and a trunk without trained weights."""
    import lpips

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it calls torchvision in a way that torchvision has since renamed
        return lpips.LPIPS(net="vgg", version="0.1", pnet_rand=True, verbose=False)


def load_dino(path: Path) -> Dino:
    """UserError if the file does not hold this network."""
    network = new_dino()
    network.load_state_dict(_named(path, "DINO ViT-S/16", {name: list(t.shape) for name, t in network.state_dict().items()}))
    return Dino(network)


def load_lpips(path: Path) -> Lpips:
    """`path` holds torchvision's VGG16 under timm's names; UserError if it does not."""
    network = new_lpips()
    trunk: nn.Module = network.get_submodule("net")
    # the package cuts the trunk into slices and keeps each layer's number: slice2.5.weight is features.5.weight
    places = {name: "features." + name.split(".", 1)[1] for name in trunk.state_dict()}
    tensors = _named(path, "VGG16", {places[name]: list(t.shape) for name, t in trunk.state_dict().items()})
    trunk.load_state_dict({name: tensors[place] for name, place in places.items()})
    return Lpips(network)


def _named(path: Path, what: str, expected: Mapping[str, list[int]]) -> dict[str, Tensor]:
    """The expected tensors of a file that may hold others too (a classifier that nothing here needs)."""
    header, _ = read_header(path, what, MAX_BYTES)
    return read_tensors(path, what, header, expected, others=True)


def _place(hub: str, folder: Path | None, download: bool) -> Path:
    """Where on this machine a published model is: in a person's folder, or in the hub's cache.

    The cache is looked up by its own layout and not asked through the loaders, which go to the network even when told not to (hub 2.4).
    """
    if folder is not None:
        place = folder / hub.split("/")[1]
        if not place.is_dir():
            raise UserError(f"{folder} lacks the encoder {place.name}; run: hf download {hub} --local-dir {place}")
        return place
    from huggingface_hub import snapshot_download, try_to_load_from_cache

    if download:
        try:
            return Path(snapshot_download(hub, allow_patterns=["*.json", "*.txt", "model.safetensors"]))
        except (OSError, ValueError) as error:
            raise _missing(hub, error) from error
    found = try_to_load_from_cache(hub, "model.safetensors")
    if not isinstance(found, str):
        raise _missing(hub, FileNotFoundError("it is not in the hub's cache on this machine"))
    return Path(found).parent


def hub_cache() -> Path:
    """Where the hub's client keeps what was fetched on this machine."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def _missing(source: str, error: Exception) -> UserError:
    reason = str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__
    return UserError(f"the encoder {source} cannot be loaded ({reason}); give its folder with --encoders, or allow --download")


@torch.no_grad()
def _in_batches(look: Callable[[Tensor], Tensor], images: Sequence[Image], preprocess: Preprocess, device: torch.device) -> Tensor:
    """Features [N, d], float32 on the CPU, of N RGB images."""
    rows = []
    for first in range(0, len(images), BATCH):
        pixels = torch.stack([preprocess(image) for image in images[first : first + BATCH]])
        rows.append(look(pixels.to(device)).float().cpu())
    return torch.cat(rows)


def _pooled(output: Any) -> Tensor:
    """transformers 4 returns the projected features themselves, 5 returns them as `pooler_output`."""
    return output if isinstance(output, Tensor) else output.pooler_output


def _device(module: nn.Module) -> torch.device:
    return next(module.parameters()).device
