"""The model adapter of ComfyUI's MODEL, CLIP and VAE. Gradients flow through it, and shared objects never change."""
# pyright: reportMissingImports=false

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
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
from .autograd_weights import NonInferenceWeight, autograd_weights, unload
from .base_model import check_clip, check_model, check_vae, embedding_width, noise_schedule
from .memory import blocks, free_memory, pass_memory, text_layers, text_memory
from .text import OutOfPlaceLayer, encode, token_rows
from .trainable import attentions, replaced_weights

SD15_SIZE = 512  # pixels a side


@contextmanager
def host_model(model: Any, clip: Any, vae: Any, beside: nn.Module | None = None) -> Iterator[HostModel]:
    """While open, yields the inputs as a `DiffusionModel`, outside inference mode. The inputs do not change.

    Args:
        beside: a network used with the model, such as a probe. `use_plan` loads it to the same device; closing moves it back.
    Raises:
        UserError: an input is not from a Stable Diffusion 1.5 model, or they do not belong together.
    """
    check_clip(clip)
    check_model(model, embedding_width(clip))
    check_vae(vae, model.get_model_object("latent_format").latent_channels)
    with torch.inference_mode(False), torch.no_grad():
        host = HostModel(model, clip, vae, beside)
        with autograd_weights(host.patcher) as wrappers, autograd_weights(host.clip.patcher):
            host.wrappers = wrappers
            try:
                yield host
            finally:
                for companion in host.companions:
                    unload(companion)


class HostModel:
    """Implements the core's `TrainableModel`, `ProbeTeacher`, `SupportsCheckpointing` and `EstimatesMemory`; see there.

    Create it with `host_model`. Its `denoiser` has the attentions alone, the part that LoRAs and Custom Diffusion tune.

    LoRAs, clip skip and the prediction type of the inputs apply. Patches of the sampling, such as guiders and attention patches, do not,
    since embeddings are refined for the model and not for one sampler.
    """

    def __init__(self, model: Any, clip: Any, vae: Any, beside: nn.Module | None = None):
        self.patcher, self.clip, self._vae = model.clone(), clip.clone(), vae
        self.companions = [] if beside is None else [_patcher(beside, self.patcher.load_device)]
        for index, layer in enumerate(text_layers(clip)):
            self.clip.patcher.add_object_patch(f"clip_l.transformer.text_model.encoder.layers.{index}", OutOfPlaceLayer(layer))
        self.name = type(model.model.model_config).__name__
        self.schedule = noise_schedule(model)
        self.embedding_width = embedding_width(clip)
        self.family = family_of_width(self.embedding_width)
        self.image_size: int = getattr(type(model.model.model_config), "image_size", SD15_SIZE)
        self.dtype: torch.dtype = model.get_model_object("manual_cast_dtype") or model.model.get_dtype()  # compute dtype of the denoiser
        self.wrappers: dict[str, NonInferenceWeight] = {}
        self._replaced = False
        self._denoiser: nn.Module | None = None
        self._checkpointing = False
        self._min_memory = 0  # bytes to keep free for every pass
        self._available = -1  # bytes requested when the models were last loaded

    @property
    def fingerprint(self) -> str:
        return vocabulary_fingerprint(self)

    @property
    def device(self) -> torch.device:
        return self.patcher.load_device

    @property
    def vocabulary(self) -> Mapping[str, int]:
        tokenizer = self.clip.tokenizer.clip_l
        return getattr(tokenizer, "vocabulary", None) or tokenizer.tokenizer.get_vocab()

    @property
    def text_encoder(self) -> nn.Module:
        return self.clip.cond_stage_model.clip_l.transformer

    @property
    def denoiser(self) -> nn.Module:
        if self._denoiser is None:
            self._denoiser = attentions(self.patcher.model.diffusion_model)
        return self._denoiser

    @contextmanager
    def replaced(self, weights: Mapping[str, Tensor]) -> Iterator[None]:
        before, self._replaced = self._replaced, True
        try:
            with replaced_weights(self.patcher, self.wrappers, weights):
                yield
        finally:
            self._replaced = before

    def token_embeddings(self, text: str) -> Tensor:
        return token_rows(self.clip, text).to(self.device)

    def encode_prompts(self, prompts: Sequence[Prompt]) -> EncodedPrompts:
        self._load(0)
        with checkpointed(text_layers(self.clip) if self._checkpointing and torch.is_grad_enabled() else ()):
            return encode(self.clip, prompts, self.device)

    def latent_shape(self, size: int | None = None) -> tuple[int, int, int]:
        """See `ProbeTeacher`."""
        cells = (size or self.image_size) // self._vae.spacial_compression_encode()
        return self.patcher.get_model_object("latent_format").latent_channels, cells, cells

    def encode_image(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            latents = self.scale_latents(self._vae.encode(images).float()).to(self.device)
        self._reload()
        return latents

    def decode(self, latents: Tensor) -> Tensor:
        with torch.no_grad():
            images = self._vae.decode(self.patcher.model.process_latent_out(latents.detach()))
        self._reload()
        return images

    def scale_latents(self, latents: Tensor) -> Tensor:
        """Scales a VAE's latents for the denoiser, on their device."""
        return self.patcher.model.process_latent_in(latents)

    def predict_noise(self, noisy: Tensor, t: Tensor, context: Tensor, capture: AttentionCapture | None = None) -> Tensor:
        """See `DiffusionModel.predict_noise`. Raises ComfyUI's interrupt exception if the user has cancelled."""
        comfy.model_management.throw_exception_if_processing_interrupted()
        unet = self.patcher.model.diffusion_model
        gradients = torch.is_grad_enabled()
        checkpointing = gradients and self._checkpointing
        if gradients:
            cells = math.prod(noisy.shape[2:])
            self._load(pass_memory(self.patcher, self.dtype, len(noisy), cells, checkpointing, self.device))
        else:
            self._load(self.patcher.model.memory_required(list(noisy.shape)))
        # ComfyUI's x is x_0 + sigma eps, the adapter's is alpha times that
        sigma = self.patcher.get_model_object("model_sampling").sigmas.to(noisy.device)[t]
        x = noisy * torch.sqrt(1 + sigma**2)[:, None, None, None]
        # replaced weights would get scaled gradients too, so their trainer scales its loss instead
        scaled = self.dtype == torch.float16 and context.requires_grad and not self._replaced
        scale = HALF_SCALE if scaled else 1.0
        options: dict[str, Any] = {"optimized_attention_override": override, "cond_or_uncond": [0], "sigmas": sigma}
        capturer = None if capture is None else AttentionCapturer(unet, noisy)
        if capturer is not None:
            options["patches_replace"] = capturer.replacements
        with checkpointed(blocks(unet) if checkpointing else ()):
            denoised = self.patcher.model.apply_model(
                scale_gradient(x, 1 / scale), sigma, c_crossattn=scale_gradient(context, 1 / scale), transformer_options=options
            )
        if capturer is not None and capture is not None:
            capturer.finish(capture, scale)
        return (x - scale_gradient(denoised.float(), scale)) / sigma[:, None, None, None]

    def network_output(self, noisy: Tensor, t: Tensor, context: Tensor, capture: AttentionCapture | None = None) -> Tensor:
        """See `ProbeTeacher`."""
        return self.schedule.output_from_noise(self.predict_noise(noisy, t, context, capture), noisy, t)

    @contextmanager
    def use_plan(self, plan: MemoryPlan) -> Iterator[None]:
        """See `SupportsCheckpointing`. Frees the memory of a whole step at once, so that no model is moved within a step."""
        before = self._checkpointing, self._min_memory
        self._checkpointing, self._min_memory = plan.checkpointing, self.memory_needed(plan)
        try:
            self._load(0)
            yield
        finally:
            self._checkpointing, self._min_memory = before

    def memory_needed(self, plan: MemoryPlan) -> int:
        cells = (plan.side // self._vae.spacial_compression_encode()) ** 2
        step = pass_memory(self.patcher, self.dtype, plan.batch_size, cells, plan.checkpointing, self.device)
        return step + text_memory(self.clip, plan.batch_size, plan.checkpointing)

    def memory_free(self) -> int:
        return free_memory([self.patcher, self.clip.patcher, *self.companions])

    def _load(self, memory: int) -> None:
        """Loads the models with `memory` bytes left free. Does nothing if they were loaded with that much."""
        memory = max(memory, self._min_memory)
        if memory > self._available:
            for companion in self.companions:  # in full: ComfyUI cannot load a plain module's weights on demand
                comfy.model_management.load_models_gpu([companion], memory_required=memory, force_full_load=True)
            comfy.model_management.load_models_gpu([self.patcher, self.clip.patcher, *self.companions], memory_required=memory)
            self._available = memory

    def _reload(self) -> None:
        """Call after the VAE has run, for which ComfyUI may have unloaded the models. Companions are used directly, so load them now."""
        self._available = -1
        if self.companions:
            self._load(0)


def _patcher(module: nn.Module, device: torch.device) -> Any:
    """A network of the pack under ComfyUI's memory management; it is not moved yet."""
    return comfy.model_patcher.ModelPatcher(module, device, next(module.parameters()).device)


class HostVae:
    """A VAE as a `LatentEncoder`. Its latents are not scaled for a denoiser."""

    def __init__(self, vae: Any):
        self._vae = vae
        self.image_size: int = getattr(vae.first_stage_model, "image_size", SD15_SIZE)

    def encode_image(self, images: Tensor) -> Tensor:
        """Images [B, H, W, 3] in 0..1 to the VAE's unscaled latents [B, C, h, w], float32."""
        return self._vae.encode(images).float()
