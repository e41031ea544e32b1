"""What an InstantBooth adapter has read of a subject's images, in one file.

It holds no pixels, but patch features allow a rough reconstruction of them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from ..errors import UserError
from ..files.modelspec import modelspec
from ..files.safetensors import read_header, read_tensors, write_tensors
from ..files.subject import check_name
from ..models.adapter import Prompt, TrainableModel, check_family
from .instant import InstantBooth, pieces
from .learner import Features

FORMAT, FORMAT_VERSION = "hybridbooth.reading", "1"
MAX_BYTES = 64 << 20


@dataclass(frozen=True)
class ReadingInfo:
    """Where a reading comes from; all of it is in the file's metadata. `adapter` is the adapter's fingerprint."""

    class_noun: str
    adapter: str = ""
    family: str = ""
    base_model: str = ""
    images: int = 0
    licence: str = ""

    def __post_init__(self):
        texts = (self.class_noun, self.adapter, self.family, self.base_model, self.licence)
        plain = isinstance(self.images, int) and not isinstance(self.images, bool)
        if not plain or not all(isinstance(text, str) and len(text) <= 4096 for text in texts) or not self.class_noun.strip():
            raise UserError("the metadata of the reading is damaged; read the images again")


@dataclass(frozen=True, eq=False)
class Reading:
    """The concept [d] and the patch features [L, d] of all images, float32 on the CPU; and the adapter that they are for."""

    concept: Tensor
    patches: Tensor
    info: ReadingInfo
    adapter: InstantBooth | None = None

    @staticmethod
    @torch.no_grad()
    def of(adapter: InstantBooth, model: TrainableModel, features: Features, class_noun: str) -> Reading:
        """What an adapter reads of one or more images: the mean concept, and all patch features (arXiv 2304.03411, section 3.3)."""
        check_family(model, "the adapter", adapter.config.width, adapter.config.family, adapter.config.base_model)
        predicted = adapter(features, features.clip).float().cpu()
        info = ReadingInfo(class_noun.strip(), fingerprint_of(adapter), model.family, model.name, len(predicted), adapter.config.licence)
        return Reading(predicted[:, 0].mean(0), predicted[:, 1:].flatten(0, 1), info, adapter)

    def with_adapter(self, adapter: InstantBooth) -> Reading:
        """The reading with the adapter that it is for. UserError if it was read with another one."""
        if self.info.adapter != fingerprint_of(adapter):
            raise UserError("the reading was made with another adapter; load that one, or read the images again")
        return replace(self, adapter=adapter)

    def save(self, path: str | Path, overwrite: bool = False) -> None:
        """Write the file, in float16. UserError: it exists and `overwrite` is off, or the place cannot be written."""
        path = Path(path)
        check_name(path.stem)
        if path.exists() and not overwrite:
            raise UserError(f"{path.name} exists already; choose another name or allow overwriting")
        metadata = {"format": FORMAT, "format_version": FORMAT_VERSION, "info": json.dumps(asdict(self.info))}
        metadata |= modelspec(path.stem, f"<{path.stem}>", self.info.family, "")
        write_tensors(path, {"concept": self.concept.half(), "patches": self.patches.half()}, metadata)

    @staticmethod
    def load(path: str | Path, width: int | None = None) -> Reading:
        """Read a file that `save` wrote; `with_adapter` gives it its adapter.

        Raises:
            UserError: the file is damaged, of another kind, a newer format, or of another width.
        """
        path = Path(path)
        header, metadata = read_header(path, "reading", MAX_BYTES)
        if metadata.get("format") != FORMAT or metadata.get("format_version") != FORMAT_VERSION:
            raise UserError(f"{path.name} is no reading that this program knows; update it, or read the images again")
        tensors = read_tensors(path, "reading", header, {"concept": [-1 if width is None else width], "patches": [-1, -1]})
        if not len(tensors["patches"]) or tensors["patches"].shape[1] != len(tensors["concept"]):
            raise UserError(f"the features in {path.name} do not fit together; read the images again")
        try:
            info = ReadingInfo(**json.loads(metadata["info"]))
        except UserError as error:
            raise UserError(f"{path.name}: {error}") from error
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise UserError(f"the metadata of {path.name} is damaged; read the images again") from error
        return Reading(tensors["concept"], tensors["patches"], info)

    @contextmanager
    def applied(
        self, model: TrainableModel, strength: float = 1.0, alpha: float | None = None, beta: float | None = None
    ) -> Iterator[Prompt]:
        """While open, the adapter acts in `model`; yields the concept and the class noun.

        Args:
            strength: 0 is the class noun and the untouched model; it scales alpha and beta.
            alpha, beta: of the concept token and of the adapter layers; None takes the adapter's own.
        Raises:
            UserError: there is no adapter, it is for another model, or a number is not in 0..2.
        """
        for name, value in (("strength", strength), ("alpha", alpha), ("beta", beta)):
            if value is not None and not 0 <= value <= 2:
                raise UserError(f"expected {name} from 0 to 2, found {value}")
        if strength == 0:
            yield [self.info.class_noun]
            return
        if self.adapter is None:
            raise UserError("a reading needs the adapter that it was made with; give it with --adapter (in Python: adapter=...)")
        own = self.adapter.config
        alpha, beta = strength * (own.alpha if alpha is None else alpha), strength * (own.beta if beta is None else beta)
        predicted = torch.cat([self.concept[None], self.patches])[None].to(model.device)
        with self.adapter.applied(model, predicted, alpha, beta):
            yield list(pieces(model, alpha * predicted[0, :1], self.info.class_noun))


def fingerprint_of(adapter: InstantBooth) -> str:
    """16 hex digits over an adapter's weights in float16."""
    digest = hashlib.sha256()
    for name, tensor in sorted(adapter.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().to("cpu", torch.float16).flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
