"""ComfyUI's MODEL, CLIP and VAE behind the core's seam, open to gradients, with nothing shared written to."""
# pyright: reportMissingImports=false

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import comfy.model_management
import comfy.model_patcher
import torch
from torch import Tensor, nn

from ...hybridbooth_core.bases import family_of_width
from ...hybridbooth_core.models.adapter import AttentionCapture, EncodedPrompts, Prompt, vocabulary_fingerprint
from ...hybridbooth_core.models.checkpointing import checkpointed
from ...hybridbooth_core.models.gradient_scaling import HALF_SCALE, scale_gradient
from ...hybridbooth_core.models.memory import MemoryPlan
from .attention import AttentionCapturer, override
from .autograd_weights import autograd_weights, unload
from .base_model import check_clip, check_model, check_vae, embedding_width, noise_schedule
from .memory import blocks, free_memory, pass_memory, text_layers, text_memory
from .text import OutOfPlaceLayer, encode, word_rows

SD15_SIZE = 512  # pixels a side


@contextmanager
def host_model(model: Any, clip: Any, vae: Any, beside: nn.Module | None = None) -> Iterator[HostModel]:
    """The wired objects as a `DiffusionModel`, outside inference mode, while open; afterwards they are as they were.

    `beside` is a network that works with them, such as a probe: during `use_plan` it lies where they do, and then again where it was.

    Raises:
        UserError: one of the three is not of Stable Diffusion 1.5's family, or they do not belong together.
    """
    check_clip(clip)
    check_model(model, embedding_width(clip))
    check_vae(vae, model.get_model_object("latent_format").latent_channels)
    with torch.inference_mode(False), torch.no_grad():
        host = HostModel(model, clip, vae, beside)
        with autograd_weights(host.patcher), autograd_weights(host.clip.patcher):
            try:
                yield host
            finally:
                for companion in host.companions:
                    unload(companion)


class HostModel:
    """Implements `DiffusionModel` (of `hybridbooth_core.models.adapter`), `SupportsCheckpointing` and `EstimatesMemory` (of `models.memory`); see
    there for shapes and errors. Make it with `host_model`.

    What the wired objects were given before counts: LoRAs, clip skip, the kind of prediction. Patches of the sampling itself (a guider,
    an attention patch) do not: the words are refined for the model, not for one way of sampling from it.
    """

    def __init__(self, model: Any, clip: Any, vae: Any, beside: nn.Module | None = None):
        self.patcher, self.clip, self._vae = model.clone(), clip.clone(), vae
        self.companions = [] if beside is None else [_resting(beside, self.patcher.load_device)]
        for index, layer in enumerate(text_layers(clip)):
            self.clip.patcher.add_object_patch(f"clip_l.transformer.text_model.encoder.layers.{index}", OutOfPlaceLayer(layer))
        self.name = type(model.model.model_config).__name__
        self.schedule = noise_schedule(model)
        self.embedding_width = embedding_width(clip)
        self.family = family_of_width(self.embedding_width)
        self.image_size: int = getattr(type(model.model.model_config), "image_size", SD15_SIZE)
        self.dtype: torch.dtype = model.get_model_object("manual_cast_dtype") or model.model.get_dtype()  # what the denoiser computes in
        self._checkpointing = False
        self._least = 0  # bytes to make room for at any pass
        self._room = -1  # bytes that were free after loading

    @property
    def fingerprint(self) -> str:
        return vocabulary_fingerprint(self)

    @property
    def device(self) -> torch.device:
        return self.patcher.load_device

    def token_embeddings(self, text: str) -> Tensor:
        return word_rows(self.clip, text).to(self.device)

    def encode_prompts(self, prompts: Sequence[Prompt]) -> EncodedPrompts:
        self._make_room(0)
        with checkpointed(text_layers(self.clip) if self._checkpointing and torch.is_grad_enabled() else ()):
            return encode(self.clip, prompts, self.device)

    def encode_image(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            latents = self.scale_latents(self._vae.encode(images).float()).to(self.device)
        self._pushed_out()
        return latents

    def decode(self, latents: Tensor) -> Tensor:
        with torch.no_grad():
            images = self._vae.decode(self.patcher.model.process_latent_out(latents.detach()))
        self._pushed_out()
        return images

    def scale_latents(self, latents: Tensor) -> Tensor:
        """A VAE's own latents, as the denoiser sees them; they stay on their device."""
        return self.patcher.model.process_latent_in(latents)

    def predict_noise(self, noisy: Tensor, t: Tensor, context: Tensor, capture: AttentionCapture | None = None) -> Tensor:
        """As in the protocol; an interrupt of the person stops it here."""
        comfy.model_management.throw_exception_if_processing_interrupted()
        unet = self.patcher.model.diffusion_model
        gradients = torch.is_grad_enabled()
        checkpointing = gradients and self._checkpointing
        if gradients:
            cells = math.prod(noisy.shape[2:])
            self._make_room(pass_memory(self.patcher, self.dtype, len(noisy), cells, checkpointing, self.device))
        else:
            self._make_room(self.patcher.model.memory_required(list(noisy.shape)))
        # the host's x is x_0 + sigma eps, the seam's is that times alpha
        sigma = self.patcher.get_model_object("model_sampling").sigmas.to(noisy.device)[t]
        x = noisy * torch.sqrt(1 + sigma**2)[:, None, None, None]
        scale = HALF_SCALE if self.dtype == torch.float16 else 1.0
        options: dict[str, Any] = {"optimized_attention_override": override, "cond_or_uncond": [0], "sigmas": sigma}
        listener = None if capture is None else AttentionCapturer(unet, noisy)
        if listener is not None:
            options["patches_replace"] = listener.replacements
        with checkpointed(blocks(unet) if checkpointing else ()):
            denoised = self.patcher.model.apply_model(
                scale_gradient(x, 1 / scale), sigma, c_crossattn=scale_gradient(context, 1 / scale), transformer_options=options
            )
        if listener is not None and capture is not None:
            listener.finish(capture, scale)
        return (x - scale_gradient(denoised.float(), scale)) / sigma[:, None, None, None]

    @contextmanager
    def use_plan(self, plan: MemoryPlan) -> Iterator[None]:
        """See `hybridbooth_core.models.memory.SupportsCheckpointing`. Everything of a step is given room at once, so that nothing moves within one."""
        before = self._checkpointing, self._least
        self._checkpointing, self._least = plan.checkpointing, self.memory_needed(plan)
        try:
            self._make_room(0)
            yield
        finally:
            self._checkpointing, self._least = before

    def memory_needed(self, plan: MemoryPlan) -> int:
        cells = (plan.side // self._vae.spacial_compression_encode()) ** 2
        step = pass_memory(self.patcher, self.dtype, plan.batch_size, cells, plan.checkpointing, self.device)
        return step + text_memory(self.clip, plan.batch_size, plan.checkpointing)

    def memory_free(self) -> int:
        return free_memory([self.patcher, self.clip.patcher, *self.companions])

    def _make_room(self, memory: int) -> None:
        """Load the models with so much room beside them; nothing happens if there is that much already."""
        memory = max(memory, self._least)
        if memory > self._room:
            for companion in self.companions:  # whole: a plain module cannot compute with weights that the host would bring one by one
                comfy.model_management.load_models_gpu([companion], memory_required=memory, force_full_load=True)
            comfy.model_management.load_models_gpu([self.patcher, self.clip.patcher, *self.companions], memory_required=memory)
            self._room = memory

    def _pushed_out(self) -> None:
        """After the VAE's work, for which the host may have taken the others from the device; a companion is asked for without notice."""
        self._room = -1
        if self.companions:
            self._make_room(0)


def _resting(module: nn.Module, device: torch.device) -> Any:
    """A network of ours under the host's memory management, for now where it is."""
    return comfy.model_patcher.ModelPatcher(module, device, next(module.parameters()).device)


class HostVae:
    """Of a model, what reading a reference image takes, from a VAE alone; its latents are not yet scaled for a denoiser."""

    def __init__(self, vae: Any):
        self._vae = vae
        self.image_size: int = getattr(vae.first_stage_model, "image_size", SD15_SIZE)

    def encode_image(self, images: Tensor) -> Tensor:
        """Images [B, H, W, 3] in 0..1 to the VAE's own latents [B, C, h, w], float32."""
        return self._vae.encode(images).float()
