"""The protocol's encoders: DINO ViT-S/16, CLIP ViT-B/32 and ViT-L/14, and LPIPS on VGG16.

Loads `.safetensors` files from a folder or the Hugging Face cache, never pickles, and downloads only on request. LPIPS is its authors'
package, which includes the calibration weights; only its VGG16 trunk is loaded here.
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
    """Encodes N images to the last layer's class tokens [N, 384]."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network
        self.preprocess = for_dino()

    def forward(self, images: Sequence[Image]) -> Tensor:
        return _in_batches(self.network, images, self.preprocess, _device(self))


class Clip(nn.Module):
    """Encodes images and prompts into CLIP's joint space, [N, 512] or [N, 768]."""

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
    """The LPIPS distance (version 0.1, VGG16) of two images [3, H, W] in -1..1; 0 for equal images."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network
        self.preprocess = for_lpips()

    @torch.no_grad()
    def forward(self, a: Tensor, b: Tensor) -> float:
        return self.network(a[None].to(_device(self)), b[None].to(_device(self))).item()


@dataclass(frozen=True, eq=False)
class Encoders:
    """All encoders. `clips` has the keys `b32` and `l14`; `untrained` marks random weights, whose metrics are meaningless."""

    dino: Dino
    clips: Mapping[str, Clip]
    lpips: Lpips
    untrained: bool = False

    def networks(self) -> dict[str, nn.Module]:
        """The encoders by their names in results."""
        return {"dino_vits16": self.dino, **{f"clip_{key}": clip for key, clip in self.clips.items()}, "lpips_vgg16": self.lpips}

    def to(self, device: torch.device | str) -> Encoders:
        """Moves the encoders to a device in eval mode, frozen; returns itself."""
        for network in self.networks().values():
            network.eval().requires_grad_(False).to(device)
        return self

    def fingerprints(self) -> dict[str, str]:
        """A hash of each encoder's weights."""
        return {name: weights_fingerprint(network) for name, network in self.networks().items()}


def load_encoders(folder: Path | None = None, download: bool = False) -> Encoders:
    """The encoders with published weights, on the CPU.

    Args:
        folder: contains the hub's repositories `clip-vit-base-patch32`, `clip-vit-large-patch14`, `vit_small_patch16_224.dino` and
            `vgg16.tv_in1k` as subfolders; None uses the Hugging Face cache.
        download: download what the cache lacks.
    Raises:
        UserError: a file is missing, damaged or of another network, or a package of the extra `evaluate` is missing.
    """
    check_packages()
    clips = {size.key: load_clip(size, _local_folder(size.hub, folder, download)) for size in CLIP_SIZES}
    dino, vgg = (_local_folder(hub, folder, download) / "model.safetensors" for hub in (DINO_HUB, VGG_HUB))
    return Encoders(load_dino(dino), clips, load_lpips(vgg)).to("cpu")


def check_packages() -> None:
    """UserError if a package of the extra `evaluate` is missing."""
    try:
        import lpips  # noqa: F401
        import timm  # noqa: F401
        import transformers  # noqa: F401
    except ImportError as error:
        raise UserError(f'{error.name} is not installed; run: pip install "hybridbooth[evaluate]"') from error


def load_clip(size: ClipSize, source: Path) -> Clip:
    """Loads a CLIP model and its tokenizer from a folder; UserError if files are missing or it is another CLIP."""
    from transformers import CLIPModel, CLIPTokenizer

    try:
        network: Any = CLIPModel.from_pretrained(source, use_safetensors=True, local_files_only=True).float()
        tokenizer: Any = CLIPTokenizer.from_pretrained(source, local_files_only=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise _missing(str(source), error) from error
    vision = network.config.vision_config
    found, wanted = (vision.patch_size, vision.num_hidden_layers, vision.hidden_size), (size.patch, size.layers, size.width)
    if found != wanted:
        raise UserError(f"expected {size.hub} with patch size, layers and width {wanted}, found {found} in {source}; use that model")
    return Clip(network, lambda prompts: tokenizer(list(prompts), padding=True, truncation=True, max_length=77, return_tensors="pt"))


def new_dino() -> nn.Module:
    """DINO ViT-S/16 with random weights: 22 M parameters, [N, 3, 224, 224] to [N, 384]."""
    import timm

    return timm.create_model("vit_small_patch16_224.dino", pretrained=False, num_classes=0)


def new_lpips() -> nn.Module:
    """LPIPS 0.1 on VGG16 with its authors' calibration weights and a trunk with random weights."""
    import lpips

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it uses deprecated arguments of torchvision
        return lpips.LPIPS(net="vgg", version="0.1", pnet_rand=True, verbose=False)


def load_dino(path: Path) -> Dino:
    """Loads timm's DINO ViT-S/16; UserError if the file contains another network."""
    network = new_dino()
    network.load_state_dict(_read(path, "DINO ViT-S/16", {name: list(t.shape) for name, t in network.state_dict().items()}))
    return Dino(network)


def load_lpips(path: Path) -> Lpips:
    """LPIPS with the trunk of a file that contains timm's VGG16; UserError if it does not."""
    network = new_lpips()
    trunk: nn.Module = network.get_submodule("net")
    # the package splits the trunk into slices but keeps the layers' indices: slice2.5.weight is features.5.weight
    names = {name: "features." + name.split(".", 1)[1] for name in trunk.state_dict()}
    tensors = _read(path, "VGG16", {names[name]: list(t.shape) for name, t in trunk.state_dict().items()})
    trunk.load_state_dict({name: tensors[stored] for name, stored in names.items()})
    return Lpips(network)


def _read(path: Path, what: str, expected: Mapping[str, list[int]]) -> dict[str, Tensor]:
    """The expected tensors of a file. It may contain others, such as a classifier."""
    header, _ = read_header(path, what, MAX_BYTES)
    return read_tensors(path, what, header, expected, others=True)


def _local_folder(hub: str, folder: Path | None, download: bool) -> Path:
    """The local folder of a hub repository: in the user's folder or in the Hugging Face cache.

    Looks up the cache directly, since transformers' loaders use the network even with `local_files_only` (huggingface_hub 2.4).
    """
    if folder is not None:
        local = folder / hub.split("/")[1]
        if not local.is_dir():
            raise UserError(f"{folder} lacks the encoder {local.name}; run: hf download {hub} --local-dir {local}")
        return local
    from huggingface_hub import snapshot_download, try_to_load_from_cache

    if download:
        try:
            return Path(snapshot_download(hub, allow_patterns=["*.json", "*.txt", "model.safetensors"]))
        except (OSError, ValueError) as error:
            raise _missing(hub, error) from error
    found = try_to_load_from_cache(hub, "model.safetensors")
    if not isinstance(found, str):
        raise _missing(hub, FileNotFoundError("it is not in the Hugging Face cache"))
    return Path(found).parent


def hub_cache() -> Path:
    """The Hugging Face cache on this machine."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def _missing(source: str, error: Exception) -> UserError:
    reason = str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__
    return UserError(f"the encoder {source} cannot be loaded ({reason}); set its folder with --encoders, or use --download")


@torch.no_grad()
def _in_batches(encode: Callable[[Tensor], Tensor], images: Sequence[Image], preprocess: Preprocess, device: torch.device) -> Tensor:
    """Features [N, d], float32 on the CPU, of N RGB images."""
    rows = []
    for first in range(0, len(images), BATCH):
        pixels = torch.stack([preprocess(image) for image in images[first : first + BATCH]])
        rows.append(encode(pixels.to(device)).float().cpu())
    return torch.cat(rows)


def _pooled(output: Any) -> Tensor:
    """transformers 4 returns the projected features, 5 returns them as `pooler_output`."""
    return output if isinstance(output, Tensor) else output.pooler_output


def _device(module: nn.Module) -> torch.device:
    return next(module.parameters()).device
