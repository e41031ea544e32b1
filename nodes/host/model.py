"""ComfyUI's MODEL, CLIP and VAE behind the core's seam, open to gradients, with nothing shared written to.

The host runs nodes in inference mode, and the weights it loaded there are tensors that no gradient may pass. So both patchers are cloned,
and every weight of the clones is handed to its operation as a fresh copy, through the host's own weight wrappers.
"""
# pyright: reportMissingImports=false

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import comfy.model_management
import torch
from comfy.ldm.modules.attention import get_attention_function, optimized_attention
from torch import Tensor, nn

from ...hybridbooth_core.attention import head_probabilities
from ...hybridbooth_core.diffusion_model import AttentionTap, EncodedPrompts, Prompt, words_fingerprint
from .family import check_clip, check_model, check_vae, embedding_width, noise_schedule
from .scaling import HALF_SCALE, scale_gradient
from .text import OutOfPlaceLayer, encode, word_rows

# Numbers that a backward pass keeps for each latent cell and channel of the finest level, measured at 512 pixels in float32.
KEPT_PER_CELL_AND_CHANNEL = 950
SD15_SIZE = 512  # pixels a side


@contextmanager
def host_model(model: Any, clip: Any, vae: Any) -> Iterator[HostModel]:
    """The wired objects as a `DiffusionModel`, outside inference mode, while open.

    Afterwards the clones are dropped; the host gives the originals their own weights back when it next uses them.

    Raises:
        UserError: one of the three is not of Stable Diffusion 1.5's family, or they do not belong together.
    """
    check_clip(clip)
    check_model(model, embedding_width(clip))
    check_vae(vae, model.get_model_object("latent_format").latent_channels)
    with torch.inference_mode(False), torch.no_grad():
        yield HostModel(model, clip, vae)


class HostModel:
    """Implements `hybridbooth_core.diffusion_model.DiffusionModel`; see there for shapes and errors. Make it with `host_model`.

    What the wired objects were given before counts: LoRAs, clip skip, the kind of prediction. Patches of the sampling itself (a guider,
    an attention patch) do not: the words are refined for the model, not for one way of sampling from it.
    """

    def __init__(self, model: Any, clip: Any, vae: Any):
        self._model, self._clip, self._vae = model.clone(), clip.clone(), vae
        _open_to_gradients(self._model)
        _open_to_gradients(self._clip.patcher)
        for index, layer in enumerate(clip.cond_stage_model.clip_l.transformer.text_model.encoder.layers):
            self._clip.patcher.add_object_patch(f"clip_l.transformer.text_model.encoder.layers.{index}", OutOfPlaceLayer(layer))
        self.name = type(model.model.model_config).__name__
        self.schedule = noise_schedule(model)
        self.embedding_width = embedding_width(clip)
        self.picture_size: int = getattr(type(model.model.model_config), "picture_size", SD15_SIZE)
        self._room = -1  # bytes that were free after loading

    @property
    def fingerprint(self) -> str:
        return words_fingerprint(self)

    @property
    def device(self) -> torch.device:
        return self._model.load_device

    def word_embeddings(self, text: str) -> Tensor:
        return word_rows(self._clip, text).to(self.device)

    def encode_prompts(self, prompts: Sequence[Prompt]) -> EncodedPrompts:
        self._make_room()
        return encode(self._clip, prompts, self.device)

    def encode_image(self, pictures: Tensor) -> Tensor:
        with torch.no_grad():
            latents = self.scale_latents(self._vae.encode(pictures).float()).to(self.device)
        self._room = -1  # the VAE may have pushed the others out of memory
        return latents

    def decode(self, latents: Tensor) -> Tensor:
        with torch.no_grad():
            pictures = self._vae.decode(self._model.model.process_latent_out(latents.detach()))
        self._room = -1
        return pictures

    def scale_latents(self, latents: Tensor) -> Tensor:
        """A VAE's own latents, as the denoiser sees them; they stay on their device."""
        return self._model.model.process_latent_in(latents)

    def predict_noise(self, noisy: Tensor, t: Tensor, context: Tensor, tap: AttentionTap | None = None) -> Tensor:
        """As in the protocol; an interrupt of the person stops it here."""
        comfy.model_management.throw_exception_if_processing_interrupted()
        self._make_room(noisy.shape)
        # the host's x is x_0 + sigma eps, the seam's is that times alpha
        sigma = self._model.get_model_object("model_sampling").sigmas.to(noisy.device)[t]
        x = noisy * torch.sqrt(1 + sigma**2)[:, None, None, None]
        scale = HALF_SCALE if _compute_dtype(self._model.model) == torch.float16 else 1.0
        options: dict[str, Any] = {"optimized_attention_override": _pytorch_attention, "cond_or_uncond": [0], "sigmas": sigma}
        if tap is not None:
            options["patches_replace"] = {"attn2": self._taps(tap, math.prod(noisy.shape[2:]), scale)}
        denoised = self._model.model.apply_model(
            scale_gradient(x, 1 / scale), sigma, c_crossattn=scale_gradient(context, 1 / scale), transformer_options=options
        )
        return (x - scale_gradient(denoised.float(), scale)) / sigma[:, None, None, None]

    def _taps(self, tap: AttentionTap, cells: int, scale: float) -> dict[tuple[str, int], Callable]:
        """A listener for every block that has cross-attention; it leaves out the finest of more than two resolutions."""
        unet = self._model.model.diffusion_model
        skip = cells if len(unet.channel_mult) > 2 else 0

        def listen(query: Tensor, key: Tensor, value: Tensor, extra: dict[str, Any]) -> Tensor:
            heads = extra["n_heads"]
            if query.shape[1] != skip:
                tap.maps.append(scale_gradient(head_probabilities(query, key, heads, tap.columns), scale))
            return optimized_attention(query, key, value, heads, attn_precision=extra["attn_precision"], transformer_options=extra)

        sides = {"input": len(unet.input_blocks), "middle": 1, "output": len(unet.output_blocks)}
        return {(side, block): listen for side, blocks in sides.items() for block in range(blocks)}

    def _make_room(self, shape: torch.Size | None = None) -> None:
        """Load both models with room for a pass over latents of this shape, or for none; nothing happens if there is room already."""
        model, memory = self._model.model, 0
        if shape is not None and torch.is_grad_enabled():
            values = shape[0] * math.prod(shape[2:]) * model.diffusion_model.model_channels * KEPT_PER_CELL_AND_CHANNEL
            memory = values * _compute_dtype(model).itemsize + self._model.model_size()  # copies of the weights are kept as well
        elif shape is not None:
            memory = model.memory_required(list(shape))
        if memory > self._room:
            comfy.model_management.load_models_gpu([self._model, self._clip.patcher], memory_required=memory)
            self._room = memory


class HostVae:
    """Of a model, what reading a reference picture takes, from a VAE alone; its latents are not yet scaled for a denoiser."""

    def __init__(self, vae: Any):
        self._vae = vae
        self.picture_size: int = getattr(vae.first_stage_model, "picture_size", SD15_SIZE)

    def encode_image(self, pictures: Tensor) -> Tensor:
        """Pictures [B, H, W, 3] in 0..1 to the VAE's own latents [B, C, h, w], float32."""
        return self._vae.encode(pictures).float()


def _open_to_gradients(patcher: Any) -> None:
    """Freeze a cloned patcher's model and hand copies of its weights to its operations.

    Word tables are left out: a look-up keeps nothing of the table for the gradient, and a copy of it would be large.
    """
    patcher.model.requires_grad_(False)
    for name, module in patcher.model.named_modules():
        if hasattr(module, "weight_function") and not isinstance(module, nn.Embedding):
            patcher.add_weight_wrapper(f"{name}.weight", torch.clone)
            patcher.add_weight_wrapper(f"{name}.bias", torch.clone)


def _compute_dtype(model: Any) -> torch.dtype:
    """What a denoiser computes in, whatever its weights are stored in."""
    return model.manual_cast_dtype or model.get_dtype()


def _pytorch_attention(attention: Callable, *args: Any, **kwargs: Any) -> Tensor:
    """PyTorch's own attention in place of the one the host prefers, which may know no gradients."""
    return get_attention_function("pytorch")(*args, **kwargs)
