"""What a method is: one entry of the registry, written beside the procedure that it names.

A new method is one file with `@method(...)` above a function `(inputs, config, on_step) -> Trained`, its test, and one line in `registry`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, TypeVar

from ..encoders.clip_space import ClipSpace
from ..encoders.features import Reference
from ..errors import UserError
from ..models.adapter import TrainableModel
from ..models.progress import OnStep
from ..probe.hypernetwork import Hypernetwork
from ..probe.instant import InstantBooth
from ..probe.probe import Features, Probe
from .artefact import Trained
from .prior_images import Prior

Need = Literal["probe", "hypernetwork", "adapter", "clip_space", "prior_images", "class_noun"]
Run = TypeVar("Run", bound=Callable[..., Trained])

ARGUMENTS = ("steps", "learning_rate", "step_size", "seed", "keep")


@dataclass(frozen=True, eq=False)
class Inputs:
    """What a method may work with. What its entry does not need may be None.

    Attributes:
        ref: the reference images of the subject.
        class_noun: may be empty for a method that finds one itself.
        probe, hypernetwork, adapter: trained networks; `features` are those of `ref` that the one of them reads which the method needs.
        prior: class images to share between subjects; a method makes its own if None.
    """

    model: TrainableModel
    ref: Reference
    class_noun: str
    probe: Probe | None = None
    features: Features | None = None
    clip_space: ClipSpace | None = None
    prior: Prior | None = None
    hypernetwork: Hypernetwork | None = None
    adapter: InstantBooth | None = None


@dataclass(frozen=True, eq=False)
class Method:
    """One entry of the registry.

    Attributes:
        summary: one line for help texts.
        config: a frozen dataclass whose defaults are the published ones.
        run: (inputs, config, on_step) -> Trained.
        needs: what must be given besides a model and images.
        makes: the kind of artefact, "subject", "reading" or a form of `AdapterWeights`.
        fixed: fields of the configuration that the method's name decides.
        defaults: fields that differ from the published defaults on a family of base models.
    """

    name: str
    summary: str
    config: type
    run: Callable[[Inputs, Any, OnStep | None], Trained]
    needs: tuple[Need, ...] = ("class_noun",)
    makes: Literal["subject", "full", "lora", "custom_diffusion", "polished", "lidb", "reading"] = "subject"
    fixed: Mapping[str, Any] = field(default_factory=dict)
    defaults: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def fields(self) -> tuple[str, ...]:
        return tuple(f.name for f in fields(self.config))

    @property
    def rate(self) -> str | None:
        """The field that says how far a step goes: "learning_rate", "step_size", or None for a method without steps."""
        return next((name for name in ("learning_rate", "step_size") if name in self.fields), None)

    @property
    def options(self) -> tuple[str, ...]:
        """The fields of the configuration that are its own: neither fixed by its name nor arguments of every method."""
        return tuple(name for name in self.fields if name not in (*ARGUMENTS, *self.fixed))

    def configuration(self, family: str = "", **given: Any) -> Any:
        """The configuration for a family of base models: published defaults, then the family's, then what is given.

        Raises:
            UserError: an option that the method does not have, or a value out of range.
        """
        for name in given:
            if name not in self.fields or name in self.fixed:
                has = f"it has {', '.join(self.options)}" if self.options else "it has none"
                raise UserError(f"the method {self.name} has no option {name}; {has}")
        family_defaults = {name: value for name, value in self.defaults.get(family, {}).items() if name not in self.fixed}
        return self.config(**{**family_defaults, **self.fixed, **given})

    def __call__(self, inputs: Inputs, config: Any, on_step: OnStep | None = None) -> Trained:
        """Run it.

        Raises:
            UserError: an input that it needs is missing, or what the method itself raises.
        """
        if "probe" in self.needs and (inputs.probe is None or inputs.features is None):
            raise UserError(f"the method {self.name} starts from a probe's prediction; load a probe and its encoders, or use from_noun")
        for need, given in (("hypernetwork", inputs.hypernetwork), ("adapter", inputs.adapter)):
            if need in self.needs and (given is None or inputs.features is None):
                raise UserError(f"the method {self.name} predicts by a trained {need}; load one and its encoders")
        if "clip_space" in self.needs and inputs.clip_space is None:
            raise UserError(
                f"the method {self.name} compares image and text by CLIP; load CLIP ViT-L/14, or use from_noun, which needs none"
            )
        if "class_noun" in self.needs and not inputs.class_noun.strip():
            raise UserError(f"the method {self.name} needs a class noun such as cat or backpack; say what kind of thing the subject is")
        return self.run(inputs, config, on_step)


METHODS: dict[str, Method] = {}
"""All methods by name, in the order in which `registry` imports their files."""


def method(name: str, summary: str, config: type, **more: Any) -> Callable[[Run], Run]:
    """Register the decorated function under `name`; see `Method` for the arguments."""

    def register(run: Run) -> Run:
        METHODS[name] = Method(name, summary, config, run, **more)
        return run

    return register
