"""Shared by all node files: the base class, the pack's sockets, recurring texts, and schemas that older hosts accept."""
# pyright: reportMissingImports=false

from __future__ import annotations

import dataclasses
import functools
from typing import Any

from comfy_api.latest import io

from ..hybridbooth_core.errors import UserError
from .errors import HybridBoothError, without_folders
from .host.folders import root_folders

ProbeSocket = io.Custom("HB_PROBE")
FeaturesSocket = io.Custom("HB_FEATURES")
SubjectSocket = io.Custom("HB_SUBJECT")
HypernetworkSocket = io.Custom("HB_HYPERNETWORK")
WeightsSocket = io.Custom("HB_WEIGHTS")
InstantSocket = io.Custom("HB_INSTANT")
ReadingSocket = io.Custom("HB_READING")

FIRST, STEPS, PROBE, TRAINING, WEIGHTS, INSTANT, MINIATURE = (
    "HybridBooth",
    "HybridBooth/step by step",
    "HybridBooth/probe",
    "HybridBooth/training",
    "HybridBooth/hyperdreambooth",
    "HybridBooth/instantbooth",
    "HybridBooth/miniature",
)
"""The menu: what most people need comes first, the parts of it and special purposes in folders."""

IMAGE_TOOLTIP = "One image of the subject, or a batch of images of the same subject."
MASK_TOOLTIP = (
    "1 on the subject, 0 on the background. An empty mask, as Load Image gives for a JPG, or a full one counts as no mask; the background "
    "is then learned as well."
)
INVERT_TOOLTIP = "Turn on if the mask marks the background, as the mask of a cut-out from Load Image does."
CAPTION_TOOLTIP = (
    "What else the photo shows, so that the words need not learn it: 'on a sofa', or 'a photo of <subject> on a sofa'. Helps most with a "
    "subject unlike the probe's training. One line for all images; a connected text may have one for each."
)
PREVIEW_TOOLTIP = "Shows the loss curve while the subject is learned and, in runs of more than ten steps, a small image of it now and then."
NAME_TOOLTIP = "The subject's name in prompts, without the brackets: subject for <subject>. Any script, spaces too."
NOISE_SEED_TOOLTIP = "Seed of the noise used by the steps."
ABOUT_TOOLTIP = "The probe's base model, training data, licence and encoders, for Preview as Text."


_HostNode = io.ComfyNode  # under this name, because ComfyUI-Manager's scanner takes every class on "ComfyNode" for a node


class ComfyNode(_HostNode):
    """The base of all nodes: what a user can mend reaches the panel as one sentence, without class paths and folders of this machine."""

    def __init_subclass__(cls, **keywords: Any):
        super().__init_subclass__(**keywords)
        own = cls.__dict__.get("execute")
        if own is not None and not hasattr(own.__func__, "__wrapped__"):  # ComfyUI derives locked copies of a class, wrapped already
            cls.execute = classmethod(_plain_errors(own.__func__))  # type: ignore[method-assign]


def _plain_errors(execute: Any) -> Any:
    @functools.wraps(execute)
    def wrapped(cls: type, *args: Any, **inputs: Any) -> Any:
        try:
            return execute(cls, *args, **inputs)
        except UserError as error:
            raise HybridBoothError(without_folders(str(error), root_folders())) from None

    return wrapped


class Schema(io.Schema):
    """The schema of a node, without the keywords that this host's version does not have.

    ComfyUI-Manager finds nodes by reading the source: it looks for `Schema(node_id="...")` in classes on `ComfyNode`.
    """

    def __init__(self, **keywords: Any):
        known = {field.name for field in dataclasses.fields(io.Schema)}
        super().__init__(**{key: value for key, value in keywords.items() if key in known})


def model_inputs() -> list[Any]:
    """The inputs for the model that refining runs through."""
    return [
        io.Model.Input("model", tooltip="A Stable Diffusion 1.5 model, or the miniature's. LoRAs on it are applied."),
        io.Clip.Input("clip", tooltip="The model's CLIP. Clip skip and LoRAs on it are applied."),
        io.Vae.Input("vae", tooltip="The model's VAE."),
    ]


def seed_input(tooltip: str) -> Any:
    """A seed that does not change between runs."""
    return io.Int.Input("seed", default=0, min=0, max=2**53, control_after_generate=False, tooltip=tooltip)


def noun_input() -> Any:
    """The class noun, which `validation.noun_problem` checks."""
    return io.String.Input(
        "class_word", display_name="class noun", default="", tooltip="What the subject is, in one noun: cat, backpack, robot."
    )


def preview_input() -> Any:
    """The switch for previews; like `invert_input` behind the widgets of older workflows."""
    return io.Boolean.Input("preview", default=True, optional=True, tooltip=PREVIEW_TOOLTIP)


def invert_input() -> Any:
    """The switch for masks of the background. The last widget of its node, so that the values of older workflows keep their places."""
    return io.Boolean.Input("invert_mask", display_name="invert mask", default=False, optional=True, tooltip=INVERT_TOOLTIP)


def caption_input() -> Any:
    """What the reference shows; behind `invert_input`, for the same reason."""
    return io.String.Input("caption", default="", optional=True, multiline=False, tooltip=CAPTION_TOOLTIP)


def refined_outputs() -> list[Any]:
    """The outputs of every refining node."""
    return [
        SubjectSocket.Output(display_name="subject", tooltip="The refined words, for Inject Subject Tokens and Save Subject."),
        io.String.Output(display_name="report", tooltip="How unlike the subject is, steps, losses and memory, for Preview as Text."),
        io.Image.Output(
            display_name="subject report", tooltip="The images, where the words attend, and the loss curve, for Preview Image."
        ),
    ]
