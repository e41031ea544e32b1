"""Which picture encoders a probe was trained with, found by the ids in its file."""

from __future__ import annotations

from .errors import UserError
from .features import FeatureEncoder
from .probe import ProbeConfig


def load_encoders(config: ProbeConfig) -> tuple[FeatureEncoder, FeatureEncoder]:
    """The CLIP and the DINO encoder of a probe.

    Raises:
        UserError: this version of the pack does not have them.
    """
    from .miniature import bundle

    if (config.clip, config.dino) == (bundle.CLIP_ID, bundle.DINO_ID):
        return bundle.load_encoders()
    raise UserError(
        f"the probe reads pictures with {config.clip[:80]!r} and {config.dino[:80]!r}; this version of the pack has the miniature's "
        "encoders only, so use a probe of the miniature"
    )
