"""The family: HybridBooth and the published systems it is compared with, each called the same way.

| name                  | system                                                       | artefact                          |
|-----------------------|--------------------------------------------------------------|-----------------------------------|
| `hybridbooth`         | probe + a few steps (arXiv 2410.08192)                       | `Subject`                         |
| `regression`          | the probe alone (the way of ELITE and FastComposer)          | `Subject`                         |
| `textual_inversion`   | one word (Gal et al. 2022); `textual_inversion_5`: five      | `Subject`                         |
| `dreambooth`          | the whole denoiser + a rare token (Ruiz et al. 2023)         | `AdapterWeights`, form full                |
| `dreambooth_lora`     | the same by low-rank products (Hu et al. 2021)               | `AdapterWeights`, form lora                |
| `custom_diffusion`    | K, V of the cross-attentions + a word (Kumari et al. 2023)   | `AdapterWeights`, form custom_diffusion    |
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from ..encoders.features import Reference
from ..errors import UserError
from ..files.adapter_weights import AdapterWeights, is_adapter_weights
from ..files.subject import Subject
from ..models.adapter import TrainableModel
from ..probe.probe import Features, Probe
from ..refine.personalize import personalize
from ..refine.refine import RefineConfig
from .artefact import Artefact, Trained
from .custom_diffusion import CustomDiffusionConfig, custom_diffusion
from .dreambooth import DreamBoothConfig, DreamBoothLoraConfig, dreambooth
from .encoder_only import encoder_only
from .prior_images import Prior
from .textual_inversion import TextualInversionConfig, textual_inversion


@dataclass(frozen=True)
class Method:
    """One system: its configuration, the fields of it that its name fixes, and what it needs besides a model and images."""

    config: type | None
    fixed: dict[str, Any] = field(default_factory=dict)
    probe: bool = False
    prior: bool = False

    @property
    def options(self) -> tuple[str, ...]:
        """The fields of the configuration that are neither fixed nor arguments of `run_method`."""
        named = {"steps", "learning_rate", "step_size", "seed", "keep", *self.fixed}
        return tuple(f.name for f in fields(self.config) if f.name not in named) if self.config else ()


METHODS: dict[str, Method] = {
    "hybridbooth": Method(RefineConfig, probe=True),
    "regression": Method(None, probe=True),
    "textual_inversion": Method(TextualInversionConfig),
    "textual_inversion_5": Method(TextualInversionConfig, {"num_tokens": 5}),
    "dreambooth": Method(DreamBoothConfig, prior=True),
    "dreambooth_lora": Method(DreamBoothLoraConfig, prior=True),
    "custom_diffusion": Method(CustomDiffusionConfig, prior=True),
}


def run_method(
    name: str,
    model: TrainableModel,
    ref: Reference,
    class_noun: str,
    *,
    steps: int,
    keep: Sequence[int] = (),
    rate: float | None = None,
    seed: int = 0,
    probe: Probe | None = None,
    features: Features | None = None,
    prior: Prior | None = None,
    on_step: Callable[[int, int, float], None] | None = None,
    **options: Any,
) -> Trained:
    """Make a subject by the method of this name.

    Args:
        steps: how many; 0 for "regression", which takes none.
        keep: numbers of steps after which an artefact is kept too, each the same as a run of that many steps gives. The trained methods
            keep them from one run; "hybridbooth" makes a run for each, since it keeps its best step.
        rate: the learning rate, of "hybridbooth" the effective step; None is the method's own (published) default.
        probe, features: needed by "hybridbooth" and "regression".
        prior: class images to share between subjects; made when needed if None.
        on_step: called after every step with (steps done, steps, loss); may raise to stop, and the model is as it was.
        options: further fields of the method's configuration (`METHODS[name].options`), such as batch=8, rank=8 or prior_pictures=50.
    Raises:
        UserError: no such method, an option that it does not have, or what the method itself raises.
    """
    if name not in METHODS:
        raise UserError(f"expected a method out of {', '.join(METHODS)}, found {name!r}")
    method = METHODS[name]
    for option in options:
        if option not in method.options:
            has = f"it has {', '.join(method.options)}" if method.options else "it has none"
            raise UserError(f"the method {name} has no option {option}; {has}")
    if method.probe:
        if probe is None or features is None:
            raise UserError(f"the method {name} starts from a probe's guess; load a probe and the features of the images")
        if name == "regression":
            if steps or keep or rate is not None:
                raise UserError("regression takes the probe's guess as it is: it has no steps and no learning rate; set the steps to 0")
            return encoder_only(model, probe, ref, features, class_noun)
        return _hybridbooth(model, probe, ref, features, class_noun, steps, keep, rate, seed, on_step, options)
    settings = {**method.fixed, **options, "steps": steps, "keep": tuple(keep), "seed": seed}
    if rate is not None:
        settings["learning_rate"] = rate
    assert method.config is not None
    config = method.config(**settings)
    if isinstance(config, TextualInversionConfig):
        return textual_inversion(model, ref, class_noun, config, on_step)
    if isinstance(config, CustomDiffusionConfig):
        return custom_diffusion(model, ref, class_noun, config, prior, on_step)
    return dreambooth(model, ref, class_noun, config, prior, on_step)


def _hybridbooth(model, probe, ref, features, class_noun, steps, keep, rate, seed, on_step, options) -> Trained:
    if not all(0 <= count <= steps for count in keep):
        raise UserError(f"expected numbers of steps to keep from 0 to {steps}, found {', '.join(map(str, keep))}")
    artefacts: dict[int, Artefact] = {}
    losses: list[float] = []
    for count in sorted({*keep, steps}):
        config = RefineConfig(steps=count, step_size=rate, seed=seed, **options)
        made = personalize(model, probe, ref, features, class_noun, config, on_step if count == steps else None)
        artefacts[count], losses = made.subject, made.refinement.losses
    return Trained(artefacts, losses)


def load_artefact(path: Path, width: int | None = None) -> Subject | AdapterWeights:
    """Read a subject's file, whatever system made it: told by its content, never by its name.

    Args:
        width: d of the model it is for; words of another width are refused.
    Raises:
        UserError: the file is damaged, of another kind, or of another width.
    """
    return AdapterWeights.load(path, width) if is_adapter_weights(path) else Subject.load(path, width)
