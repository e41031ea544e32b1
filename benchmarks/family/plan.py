"""What the bench measures: methods, step counts, grids, creatures. Everything that a result depends on is in here or in a unit's inputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from hybridbooth_core.errors import UserError
from hybridbooth_core.methods.registry import METHODS
from hybridbooth_core.refine.config import NEAR_STEPS

FEW, MANY = (3, 5, 10, 25), (100, 300)
HEADLINE = ("hybridbooth", NEAR_STEPS)  # what the others are compared with
TUNE_START, TEST_START = 2000, 0  # training uses the first tune creatures, benchmarks/leads.py those from 1000

Regime = Literal["few", "many"]


@dataclass(frozen=True)
class Entry:
    """One method on the bench.

    Attributes:
        few, many: step counts with the learning rate chosen for few steps, and with that for many; both empty for what takes no steps.
        rates: the grid of learning rates (of methods that refine: step sizes) that the search tries.
        judged_at: the step counts at which the search chooses for few and for many.
    """

    title: str
    few: tuple[int, ...] = ()
    many: tuple[int, ...] = ()
    rates: tuple[float, ...] = ()
    judged_at: dict[Regime, int] | None = None


def _trained(title: str, rates: tuple[float, ...]) -> Entry:
    return Entry(title, FEW, MANY, rates, {"few": 25, "many": 100})


def _refined(title: str) -> Entry:
    return Entry(title, FEW, (), (0.05, 0.1, 0.2, 0.4), {"few": 25})


EFFECTIVE_STEPS = {"residual": (1e-4, 3e-4, 1e-3, 3e-3), "words": (0.025, 0.05, 0.1, 0.2)}
"""HybridBooth's grid, by the mode of refinement."""

ENTRIES: dict[str, Entry] = {
    "class_noun": Entry("class noun alone"),
    "encoder_only": Entry("probe alone"),
    "hybridbooth": Entry("HybridBooth", FEW, (), EFFECTIVE_STEPS["words"], {"few": NEAR_STEPS}),
    "from_noun": _refined("from the class noun, no probe"),
    "probe_free": _refined("probe-free start"),
    "textual_inversion": _trained("Textual Inversion", (1e-2, 3e-2, 1e-1, 3e-1)),
    "textual_inversion_5": _trained("Textual Inversion, 5 tokens", (1e-2, 3e-2, 1e-1, 3e-1)),
    "dreambooth": _trained("DreamBooth", (5e-5, 1.5e-4, 5e-4, 1.5e-3)),
    "dreambooth_lora": _trained("DreamBooth, LoRA", (3e-4, 1e-3, 3e-3, 1e-2)),
    "custom_diffusion": _trained("Custom Diffusion", (3e-4, 1e-3, 3e-3, 1e-2)),
    "lidb": Entry("Lightweight DreamBooth", (), (100,), (1e-2, 3e-2, 1e-1, 3e-1), {"many": 100}),
    "hypernetwork": Entry("hypernetwork alone"),
    "hyperdreambooth": Entry("HyperDreamBooth", (40,), (), (1e-3, 3e-3, 1e-2, 3e-2), {"few": 40}),
    "instantbooth": Entry("InstantBooth"),
}
"""Four rates for each: the budget of the search is the same for all."""


def needs(method: str) -> tuple[str, ...]:
    """What a method needs besides a model and images, as the registry says; the class noun alone needs nothing."""
    return METHODS[method].needs if method in METHODS else ()


def refines(method: str) -> bool:
    """Whether a method takes its steps by `refine`, whose defaults its results depend on."""
    return method in METHODS and METHODS[method].rate == "step_size"


@dataclass(frozen=True)
class Plan:
    """The size of a bench, and what all trained methods share.

    Attributes:
        settings: how many rates of each grid the search tries.
        most: every step count above it is left out.
        batch: rows a step of the trained methods averages over; class images come on top.
        token: names the subject for the methods that need a rare token. Every caption of the miniature is made of a few words, so its rare
            words are those no caption ever uses; the rarest by CLIP's ids is a first name, which means one particular creature there.
        mode: of HybridBooth's refinement, which decides its grid.
        repeats: of the timing.
        memory: whether peak memory is measured, in a fresh process for each method.
    """

    methods: tuple[str, ...] = tuple(ENTRIES)
    identities: int = 32
    prompts: int = 8
    seeds: tuple[int, ...] = (0, 1)
    tune_identities: int = 8
    settings: int = 4
    most: int = 300
    sampling_steps: int = 15
    guidance: float = 3.0
    prior_images: int = 100
    batch: int = 4
    token: str = "picture"
    training_seed: int = 0
    mode: str = "words"
    repeats: int = 5
    memory: bool = True

    def __post_init__(self):
        unknown = [name for name in self.methods if name not in ENTRIES]
        if unknown or not self.methods:
            raise UserError(f"expected methods out of {', '.join(ENTRIES)}, found {', '.join(unknown) or 'none'}")
        if self.identities < 2 or self.tune_identities < 1:
            raise UserError(f"expected at least two test identities and one to tune on, found {self.identities} and {self.tune_identities}")
        if self.mode not in EFFECTIVE_STEPS:
            raise UserError(f"expected a mode of refinement out of {', '.join(EFFECTIVE_STEPS)}, found {self.mode!r}")
        if not 1 <= self.prompts <= 8 or len(self.seeds) < 2:
            raise UserError(f"expected 1 to 8 prompts and at least two sampling seeds, found {self.prompts} and {len(self.seeds)}")

    def rates(self, method: str) -> tuple[float, ...]:
        """The grid of a method, as far as the search tries it."""
        grid = EFFECTIVE_STEPS[self.mode] if method == "hybridbooth" else ENTRIES[method].rates
        return grid[: self.settings]

    def steps(self, method: str, regime: Regime) -> tuple[int, ...]:
        """The step counts that are measured; what lies above `most` is left out."""
        return tuple(count for count in getattr(ENTRIES[method], regime) if count <= self.most)

    def judged_at(self, method: str, regime: Regime) -> int | None:
        """The step count at which the search chooses the rate of a regime; None where nothing is to choose."""
        if not self.steps(method, regime):
            return None
        count = (ENTRIES[method].judged_at or {}).get(regime)
        return None if count is None else min(count, self.steps(method, regime)[-1], self.most)

    def options(self, method: str) -> dict:
        """What `run_method` is given besides steps and rate."""
        if "prior_images" in needs(method):
            return {"batch": self.batch, "prior_images": self.prior_images, "token": self.token}
        return {"batch": self.batch} if ENTRIES[method].few and not refines(method) else {}

    def regimes(self, method: str) -> Sequence[Regime]:
        every: tuple[Regime, ...] = ("few", "many")
        return [regime for regime in every if self.judged_at(method, regime)]

    def record(self) -> dict:
        """For the results' JSON."""
        return asdict(self) | {"grids": {name: list(self.rates(name)) for name in self.methods if ENTRIES[name].rates}}


QUICK = Plan(
    identities=4, prompts=2, tune_identities=1, settings=2, most=10, sampling_steps=3, prior_images=2, batch=1, repeats=1, memory=False
)
"""Not a measurement: every part of the command once, in under a minute."""


@dataclass(frozen=True)
class Unit:
    """One piece of work: one creature personalised once by one method, drawn and scored after each of `keep` steps.

    `split` is "tune" or "test"; `row` counts the creatures of the bench from 0.
    """

    split: Literal["tune", "test"]
    method: str
    rate: float | None
    row: int
    keep: tuple[int, ...]

    @property
    def number(self) -> int:
        """The creature's number within its split."""
        return self.row + (TUNE_START if self.split == "tune" else TEST_START)

    def key(self, plan: Plan, inputs: str) -> str:
        """What this unit's result is stored under: everything it depends on. `inputs` is a digest of the weights and of the settings."""
        seeds = plan.seeds if self.split == "test" else plan.seeds[:1]
        drawing = f"{plan.prompts}p{plan.sampling_steps}s{plan.guidance:g}g{','.join(map(str, seeds))}"
        steps = ",".join(map(str, self.keep))
        rate = "none" if self.rate is None else f"{self.rate:g}"
        given = f"{plan.options(self.method)}/{plan.training_seed}"
        return f"{self.split}/{self.method}/{rate}/{steps}/{self.number}/{drawing}/{given}/{inputs}"
