"""Weights that know a subject, in one file: a whole denoiser, a LoRA, or K and V of the cross-attentions with a word.

Tensors are named as other programs read them:
    full              a stock checkpoint (`bases.whole_model`), or the parameters of diffusers' UNet2DConditionModel alone
    lora              kohya's layout, `lora_unet_..._attn1_to_q.lora_down.weight`, `.lora_up.weight`, `.alpha`, and
                      `lora_te_...` of the text encoder: stock LoraLoader, diffusers
    custom_diffusion  `....attn2.processor.to_k_custom_diffusion.weight`, as diffusers' saver writes them, and the word as `emb_params`
    polished          the keys of a LoRA, and a subject's embeddings as `emb_params`
    lidb              `theta`, the numbers of Lightweight DreamBooth (`models.lidb`), which only this program reads
Everything else is metadata. It never holds pixels or paths.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from torch import Tensor, nn, tensor

from ..errors import UserError
from ..models.adapter import Prompt, TrainableModel, check_family, class_embedding
from ..models.ldm_layout import UNET, from_checkpoint
from ..models.lidb import BASIS, LiDBSpace, Targets, lidb_layers
from ..models.low_rank import TEXT, LowRank, attention_layers, low_rank_on, text_layers
from .modelspec import modelspec
from .safetensors import read_header, read_tensors, write_tensors
from .subject import Subject, SubjectInfo, check_name

log = logging.getLogger("hybridbooth")

Form = Literal["full", "lora", "custom_diffusion", "polished", "lidb"]
FORMAT, FORMAT_VERSION = "hybridbooth.tuned", 1
MAX_BYTES = 8 << 30
WORD, NUMBERS = "emb_params", "theta"
LOW_RANK = ("lora", "polished")
_OLD_NAMES = {"class_word": "class_noun", "pictures": "images"}  # of fields in files of 0.1
_NAMES = {
    "full": re.compile(r"[a-z0-9_.]{1,200}\.(weight|bias)"),
    "lora": re.compile(
        r"(lora_unet_[a-z0-9_]{1,200}_attn[12]_to_(?:q|k|v|out_0)|lora_te_text_model_encoder_layers_\d{1,3}_\w{1,30})"
        r"\.(?:lora_down\.weight|lora_up\.weight|alpha)"
    ),
    "polished": re.compile(r"(lora_unet_[a-z0-9_]{1,200}_attn2_to_[kv])\.(?:lora_down\.weight|lora_up\.weight|alpha)|" + WORD),
    "lidb": re.compile(NUMBERS),
    "custom_diffusion": re.compile(r"[a-z0-9_.]{1,200}\.attn2\.processor\.to_[kv]_custom_diffusion\.weight|" + WORD),
}


@dataclass(frozen=True)
class AdapterInfo:
    """What the weights are and where they came from; all of it is in the file's metadata."""

    form: Form
    class_noun: str
    token: str  # text before the class noun; of custom_diffusion what the word started from, of polished the class noun
    family: str = ""  # of base models, by its ModelSpec name; "" in files of 0.1
    width: int = 0  # of the base model's embeddings; 0 in files of 0.1
    base_model: str = ""
    base_fingerprint: str = ""
    steps: int = 0
    learning_rate: float = 0.0
    seed: int = 0
    images: int = 0
    prior_weight: float = 0.0
    licence: str = ""
    subspace: tuple[int, int] = (0, 0)  # of lidb: a and b
    targets: str = ""  # of lidb: which layers
    basis: str = ""  # of lidb: the fixed matrices

    def __post_init__(self):
        texts = (self.form, self.class_noun, self.token, self.family, self.base_model, self.base_fingerprint, self.licence)
        numbers = (self.width, self.steps, self.learning_rate, self.seed, self.images, self.prior_weight, *self.subspace)
        plain = all(isinstance(v, int | float) and not isinstance(v, bool) for v in numbers)
        if not plain or not all(isinstance(text, str) and len(text) <= 4096 for text in texts):
            raise UserError("the metadata of the file mixes up text and numbers; the file is damaged")
        if self.form not in get_args(Form) or not self.class_noun.strip() or not self.token.strip():
            raise UserError(f"expected one of {', '.join(get_args(Form))}, a class noun and a token in the file, found {self.form[:40]!r}")
        if self.form == "lidb" and (self.basis != BASIS or self.targets not in get_args(Targets) or min(self.subspace) < 1):
            raise UserError(f"expected the subspace {BASIS} in the file, found {str(self.basis)[:40]!r}; update this program")


@dataclass(frozen=True, eq=False)
class AdapterWeights:
    """Tensors under their names in the file, float32 on the CPU, and what is known about them."""

    tensors: dict[str, Tensor]
    info: AdapterInfo

    def save(self, path: str | Path, overwrite: bool = False, half: bool = False) -> None:
        """Write the file. UserError: it exists and `overwrite` is off, or the place cannot be written. `half` stores float16."""
        path = Path(path)
        check_name(path.stem)
        if path.exists() and not overwrite:
            raise UserError(f"{path.name} exists already; choose another name or allow overwriting")
        kind = {"full": "", "lora": "lora", "custom_diffusion": "custom-diffusion", "polished": "lora", "lidb": ""}[self.info.form]
        trigger = f"<{path.stem}>" if self.info.form == "polished" else f"{self.info.token} {self.info.class_noun}"
        metadata = {
            "format": FORMAT,
            "format_version": str(FORMAT_VERSION),
            "info": json.dumps(asdict(self.info)),
            **modelspec(path.stem, trigger, self.info.family, kind),
        }
        write_tensors(path, {name: t.half() if half else t.float() for name, t in self.tensors.items()}, metadata)

    @staticmethod
    def load(path: str | Path, width: int | None = None) -> AdapterWeights:
        """Read a file that `save` wrote. Whether its weights fit a model is checked when they are applied.

        Args:
            width: d of the model it is for; a word of another width is refused.
        Raises:
            UserError: the file is damaged, of another kind or a newer format, or of another width.
        """
        path, what = Path(path), "file of adapter weights"
        header, metadata = read_header(path, what, MAX_BYTES)
        if metadata.get("format") != FORMAT:
            raise UserError(f"{path.name} is no {what} of this program; choose one that `personalize` wrote")
        if metadata.get("format_version") != str(FORMAT_VERSION):
            found = metadata.get("format_version", "")[:20]
            raise UserError(f"{path.name} has format {found!r}, this program reads {FORMAT_VERSION}; update it")
        try:
            stored: dict[str, Any] = json.loads(metadata["info"])
            values: dict[str, Any] = {
                _OLD_NAMES.get(name, name): tuple(value) if isinstance(value, list) else value for name, value in stored.items()
            }
            info = AdapterInfo(**values)
        except UserError as error:
            raise UserError(f"{path.name}: {error}") from error
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise UserError(f"the metadata of {path.name} is damaged; get the {what} again") from error
        if info.form == "full":  # a whole checkpoint: its other networks are the base model's own
            header = {name: entry for name, entry in header.items() if name.startswith(UNET)} or header
        tensors = read_tensors(path, what, header, _expected(path.name, header, info.form, width))
        return AdapterWeights(tensors, info)

    @contextmanager
    def applied(self, model: TrainableModel, strength: float = 1.0) -> Iterator[Prompt]:
        """While open, the model computes with W + strength (W' - W); yields the pieces that stand for the subject in a prompt.

        Those are the token (or the word, moved from its start by as much) and the class noun; at strength 0 the class noun alone, and
        the model is the untouched one.

        Raises:
            UserError: the weights are of another model, or the strength is not in 0..2.
        """
        if not 0 <= strength <= 2:
            raise UserError(f"expected a strength from 0 (class noun) over 1 (subject) to 2, found {strength}")
        changed = self._changed(model, strength)
        noun = self.info.class_noun
        if strength == 0:
            yield [noun]
            return
        with changed, ExitStack() as stack:
            if self.info.form == "polished":
                yield stack.enter_context(self.subject().applied(model, strength))
            elif WORD in self.tensors:
                yield [self._word(model, strength), noun]
            else:
                yield [f"{self.info.token} {noun}"]

    def subject(self) -> Subject:
        """The embeddings in the file as a subject of their own: one word, or all of a polished subject's."""
        info = self.info
        return Subject(
            self.tensors[WORD],
            SubjectInfo(
                class_noun=info.class_noun,
                family=info.family,
                base_model=info.base_model,
                base_fingerprint=info.base_fingerprint,
                method=info.form,
                images=info.images,
                licence=info.licence,
            ),
        )

    def _word(self, model: TrainableModel, strength: float) -> Tensor:
        """The new word [1, d], on the line from the token it started from."""
        word = self.tensors[WORD]
        if strength == 1:
            return word
        start = class_embedding(model, self.info.token).to(word)
        return start + strength * (word - start)

    def _changed(self, model: TrainableModel, strength: float) -> AbstractContextManager[None]:
        """The model with these weights, checked to fit, not yet entered."""
        width = self.tensors[WORD].shape[1] if WORD in self.tensors else self.info.width or model.embedding_width
        check_family(model, f"this {self.info.form}", width, self.info.family, self.info.base_model)
        same_words = self.info.base_fingerprint == model.fingerprint
        if self.info.form in LOW_RANK:
            if not same_words:
                log.warning("the LoRA was made on %s, whose words differ from those of %s", self.info.base_model, model.name)
            layers = self._layers(model)
            return low_rank_on(layers, self._low_rank(model, layers), strength)
        if self.info.form == "lidb":
            return low_rank_on(lidb_layers(model, self.info.targets), self.residuals(model), strength)  # type: ignore[arg-type]
        if not same_words:  # W' - W means something for its own W only
            raise self._misfit(model)
        own = dict(model.denoiser.named_parameters())
        targets = {parameter_name(name): value for name, value in self.tensors.items() if name != WORD}
        if any(name.startswith(UNET) for name in targets):
            targets = from_checkpoint(targets, own)
        if any(name not in own or own[name].shape != value.shape for name, value in targets.items()):
            raise self._misfit(model)
        if self.info.form == "full" and len(targets) < len(own):
            raise self._misfit(model)
        moved = {}
        for name, value in targets.items():
            weight, value = own[name].detach(), value.to(own[name])
            moved[name] = value if strength == 1 else weight + strength * (value - weight)
        return model.replaced(moved)

    def residuals(self, model: TrainableModel) -> dict[str, LowRank]:
        """The rank-1 LoRA that the numbers of a lidb stand for, by kohya's names, on the model's device.

        Raises:
            UserError: the model has other layers.
        """
        try:
            space = LiDBSpace.of(lidb_layers(model, self.info.targets), *self.info.subspace)  # type: ignore[arg-type]
            return space.residuals(self.tensors[NUMBERS].to(model.device))
        except ValueError:
            raise self._misfit(model) from None

    def as_lora(self, model: TrainableModel) -> AdapterWeights:
        """A lidb as the rank-1 LoRA that it is exactly, for programs that do not know its subspace.

        Raises:
            UserError: it is of another form, or the model has other layers.
        """
        if self.info.form != "lidb":
            raise UserError(f"expected Lightweight DreamBooth (lidb) to export as a LoRA, found {self.info.form}; it needs no export")
        info = replace(self.info, form="lora", subspace=(0, 0), targets="", basis="")
        return AdapterWeights(low_rank_tensors(self.residuals(model)), info)

    def _layers(self, model: TrainableModel) -> dict[str, nn.Linear]:
        """The model's layers that a LoRA may change, by kohya's names."""
        text = any(name.startswith(TEXT) for name in self.tensors)
        return attention_layers(model.denoiser) | (text_layers(model.text_encoder) if text else {})

    def _low_rank(self, model: TrainableModel, layers: Mapping[str, nn.Linear]) -> dict[str, LowRank]:
        residuals = {}
        for key in {name.partition(".")[0]: None for name in self.tensors if name != WORD}:
            down, up, alpha = (self.tensors[f"{key}.{part}"] for part in ("lora_down.weight", "lora_up.weight", "alpha"))
            if key not in layers or layers[key].weight.shape != (len(up), down.shape[1]):
                raise self._misfit(model)
            residuals[key] = LowRank(down.to(model.device), up.to(model.device), alpha.item())
        return residuals

    def _misfit(self, model: TrainableModel) -> UserError:
        made_for = self.info.base_model or "another model"
        return UserError(f"these weights ({self.info.form}) were made for {made_for} and do not fit {model.name}; make the subject again")


def custom_diffusion_name(parameter: str) -> str:
    """`....attn2.to_k.weight` as diffusers' Custom Diffusion writes it."""
    return re.sub(r"\.to_([kv])\.weight$", r".processor.to_\1_custom_diffusion.weight", parameter)


def parameter_name(key: str) -> str:
    """The inverse of `custom_diffusion_name`; other names stay."""
    return re.sub(r"\.processor\.to_([kv])_custom_diffusion\.weight$", r".to_\1.weight", key)


def low_rank_tensors(residuals: Mapping[str, LowRank]) -> dict[str, Tensor]:
    """Residuals by kohya's names, as a file names them."""
    tensors = {}
    for key, residual in residuals.items():
        tensors[f"{key}.lora_down.weight"] = residual.down.detach().cpu().clone()
        tensors[f"{key}.lora_up.weight"] = residual.up.detach().cpu().clone()
        tensors[f"{key}.alpha"] = tensor(float(residual.alpha))
    return tensors


def _expected(file: str, header: Mapping[str, dict], form: Form, width: int | None) -> dict[str, list[int]]:
    """The shapes that `read_tensors` checks: the file's own, where names and shapes make sense together."""
    expected: dict[str, list[int]] = {}
    for name, entry in header.items():
        match = _NAMES[form].fullmatch(name)
        if match is None:
            raise UserError(f"{file} says it holds a {form}, but also holds {name[:80]!r}; it is another kind of file, or damaged")
        expected[name] = entry["shape"]
        if form in LOW_RANK and name != WORD:
            rank = (header.get(f"{match[1]}.lora_down.weight", {}).get("shape") or [0])[0]
            expected |= {f"{match[1]}.lora_down.weight": [rank, -1], f"{match[1]}.lora_up.weight": [-1, rank], f"{match[1]}.alpha": []}
    if form in ("custom_diffusion", "polished"):
        expected[WORD] = [1 if form == "custom_diffusion" else -1, -1 if width is None else width]
    if form == "lidb":
        expected[NUMBERS] = [-1, -1]
    if not expected:
        raise UserError(f"{file} holds no tensor; it is damaged")
    return expected
