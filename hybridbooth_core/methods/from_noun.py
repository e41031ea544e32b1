"""The class noun and nothing else to start from, then steps on the embeddings: needs no probe, no encoder, only the base model."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..errors import UserError
from ..files.subject import MAX_WORDS, Subject, SubjectInfo
from ..models.adapter import class_embedding
from ..probe_free.refining import REFINING, STEP_SIZE, STEPS, refine_subject
from .artefact import Trained
from .method import Inputs, OnStep, method

NAME = "from_noun"


@dataclass(frozen=True)
class FromNounConfig:
    """How to refine the class noun.

    Attributes:
        steps, step_size: of Adam on the embeddings; a step moves an embedding by about `step_size` of its norm.
        num_tokens: n embeddings of the subject, each of which starts as the class noun.
        caption: what the reference shows; see `refine.captions`.
    """

    steps: int = STEPS
    step_size: float = STEP_SIZE
    num_tokens: int = 5
    caption: str = ""
    seed: int = 0

    def __post_init__(self):
        if not 1 <= self.num_tokens <= MAX_WORDS:
            raise UserError(f"expected 1 to {MAX_WORDS} tokens, found {self.num_tokens}; 5 are usual")


@method(NAME, "the class noun, then steps on the embeddings: needs nothing but the model", FromNounConfig)
def from_noun(inputs: Inputs, config: FromNounConfig, on_step: OnStep | None = None) -> Trained:
    """n copies of the class noun's embedding, refined by `refine_subject`.

    Raises:
        UserError: a class noun that the model does not know, or what `refine` raises.
    """
    noun = inputs.class_noun.strip()
    start = class_embedding(inputs.model, noun).cpu().repeat(config.num_tokens, 1)
    refining = replace(REFINING, steps=config.steps, step_size=config.step_size, caption=config.caption, seed=config.seed)
    info = SubjectInfo(class_noun=noun, method=NAME)
    made = refine_subject(inputs.model, inputs.ref, Subject(start, info), refining, on_step)
    return Trained({config.steps: made.subject}, made.refinement.losses, made.report(), made.refinement)
