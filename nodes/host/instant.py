"""InstantBooth in ComfyUI: a CLIP that writes the concept into the encoded prompt, and hooks that let the adapter layers act.

The hooks hang on the conditionings that the CLIP encodes, so masks, areas, timestep ranges, ControlNet and every sampler compose with
them. They act in the rows whose context holds the concept and nowhere else: a negative prompt of the same CLIP stays as it is.
"""
# pyright: reportMissingImports=false

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import comfy.hooks
import comfy.model_management
import comfy.model_patcher
import comfy.patcher_extension
import torch
from torch import Tensor, nn

from ...hybridbooth_core.encoders.features import Reference, extract_features
from ...hybridbooth_core.errors import UserError
from ...hybridbooth_core.files.subject import check_name
from ...hybridbooth_core.models.adapter import Reader, check_family
from ...hybridbooth_core.models.ldm_layout import transformers_of
from ...hybridbooth_core.probe.instant import InstantBooth
from ...hybridbooth_core.probe.reading import Reading
from .base_model import check_clip, embedding_width
from .model import HostVae, host_model
from .subjects import with_pieces
from .text import token_rows
from .vision import host_encoders

ROWS = "hybridbooth_rows"
SAME = 0.9999  # cosine above which a row of a context is the concept: half precision leaves more than that
FAINT = 1e-3  # an alpha of 0 leaves this much, by which the rows are found
SIDES = {"input": "input_blocks", "middle": "middle_block", "output": "output_blocks"}


def read_references(
    adapter: InstantBooth, model: Any, clip: Any, vae: Any, ref: Reference, class_noun: str, clip_vision: Any = None
) -> Reading:
    """What the adapter reads of one or more images, outside inference mode. UserError if it was trained for another base model."""
    with host_model(model, clip, vae) as host:
        noun = class_noun.strip()
        if not len(host.token_embeddings(noun)):
            raise UserError("expected a class noun such as cat or backpack, found none; enter the kind of thing that the subject is")
        features = extract_features(HostVae(vae), *host_encoders(adapter.config, clip_vision), ref)
        return Reading.of(adapter, host, features, noun)  # type: ignore[arg-type]


def with_reading(clip: Any, reading: Reading, name: str, alpha: float, beta: float) -> Any:
    """A clone of `clip` whose prompts may use `<name>` for what was read, in addition to earlier subjects.

    Args:
        alpha, beta: of the concept token and of the adapter layers, 0 to 2.
    Raises:
        UserError: the name is invalid, the CLIP is of another family, or the reading has no adapter.
    """
    name = check_name(name)
    check_clip(clip)
    width = embedding_width(clip)
    check_family(Reader("this CLIP", reading.info.family, width), "the reading", len(reading.concept), reading.info.family)
    if reading.adapter is None:
        raise UserError("a reading needs the adapter that it was made with; connect Load Instant Adapter")
    noun = reading.info.class_noun
    marker = token_rows(clip, noun).mean(0)  # [d], found again by its identity
    patched = with_pieces(clip, name, (marker, noun))
    concept = max(alpha, FAINT) * reading.concept
    before = patched.patcher.object_patches.get("encode_token_weights")
    patched.patcher.add_object_patch("encode_token_weights", _writing(patched.cond_stage_model, before, marker, concept))
    hooks = _hooks(reading, concept, beta)
    earlier = patched.apply_hooks_to_conds
    patched.apply_hooks_to_conds = hooks if earlier is None else earlier.clone_and_combine(hooks)
    return patched


def _writing(stage: Any, before: Callable[[Any], Any] | None, marker: Tensor, concept: Tensor) -> Callable[[Any], Any]:
    """The text encoder's `encode_token_weights`, after which the concept stands where the marker stood, times the marker's weight."""

    def encode(token_weight_pairs: Any) -> Any:
        plain = before or type(stage).encode_token_weights.__get__(stage)
        context, *rest = plain(token_weight_pairs)
        flat = [pair for chunk in token_weight_pairs[stage.clip_name] for pair in chunk]
        found = [(column, pair[1]) for column, pair in enumerate(flat) if pair[0] is marker]
        if found:
            context = context.clone()
            for column, weight in found:
                context[:, column] = weight * concept.to(context)
        return (context, *rest)

    return encode


def _hooks(reading: Reading, concept: Tensor, beta: float) -> Any:
    """Hooks for conditionings: the adapter layers, and the adapter as a further model for the host to load."""
    adapter = reading.adapter
    assert adapter is not None
    device = comfy.model_management.get_torch_device()
    patcher = comfy.model_patcher.ModelPatcher(adapter, device, torch.device("cpu"))
    acting = _Acting(adapter, concept, reading.patches, beta)
    options = {
        "patches": {"middle_patch": [acting.between]},
        "wrappers": {comfy.patcher_extension.WrappersMP.APPLY_MODEL: {f"hybridbooth_{id(acting)}": [acting.look]}},
    }
    group = comfy.hooks.HookGroup()
    group.add(comfy.hooks.TransformerOptionsHook(options, comfy.hooks.EnumHookScope.HookedOnly))
    group.add(comfy.hooks.AdditionalModelsHook([patcher], key=f"hybridbooth_{id(acting)}"))
    return group


class _Acting:
    """The adapter layers of one reading in a denoiser's passes."""

    def __init__(self, adapter: InstantBooth, concept: Tensor, patches: Tensor, beta: float):
        self.concept, self.patches, self.beta = concept, patches, beta
        self.layers: dict[str, nn.Module] = dict(zip(adapter.config.blocks, adapter.adapters, strict=True))
        self.places: dict[str, str] | None = None

    def look(
        self, executor: Any, x: Tensor, t: Tensor, c_concat: Any, c_crossattn: Tensor, control: Any, options: dict, **more: Any
    ) -> Any:
        """Around a pass of the denoiser: notes which rows' context holds the concept, at whatever weight."""
        if self.places is None:
            self.places = transformers_of(name for name, _ in executor.class_obj.diffusion_model.named_modules())
        rows = holding(c_crossattn, self.concept)
        noted = {**options, ROWS: {**options.get(ROWS, {}), id(self): rows}}
        return executor(x, t, c_concat, c_crossattn, control, noted, **more)

    def between(self, x: Tensor, extra: dict) -> Tensor:
        """ComfyUI's `middle_patch`: the residual stream x [B, N, C] after a block's self-attention, before its cross-attention."""
        rows, (side, number) = extra.get(ROWS, {}).get(id(self)), extra["block"]
        if rows is None or not len(rows) or self.places is None:
            return x
        place = f"{SIDES[side]}.1" if side == "middle" else f"{SIDES[side]}.{number}.1"
        layer = self.layers.get(f"{self.places.get(place, '')}.transformer_blocks.{extra.get('block_index', 0)}")
        if layer is None:
            return x
        parameter = next(layer.parameters())
        y = x[rows].to(parameter)
        patches = self.patches.to(parameter)[None].expand(len(rows), -1, -1)
        return x.index_add(0, rows, layer(y, patches, self.beta).to(x))


def holding(context: Tensor, concept: Tensor) -> Tensor:
    """The rows [k] of a context [R, T, d] that hold the concept [d], whatever its weight and precision there."""
    likeness = torch.nn.functional.cosine_similarity(context.float(), concept.float().to(context.device), dim=-1)
    return (likeness.amax(1) > SAME).nonzero()[:, 0]
