"""Shared fixtures: a miniature model with random weights, tiny probes, reference images. All seeded, frozen, and made once."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from hybridbooth_core.errors import UserError

torch.set_num_threads(1)  # everything here is tiny: more threads only wait for one another

TESTS = Path(__file__).parent
MARKED_FOLDERS = {TESTS / "host": "host", TESTS / "benchmarks": "slow"}  # benchmarks are no part of the installed package
DATASET = TESTS / "data" / "dreambooth"
PROMPTNET_SIZES = {
    "channels": 32, "multipliers": [1, 2], "depth": 1, "heads": 4, "attention_levels": 2, "latent_channels": 16, "pooled": 8,
}  # fmt: skip
RESAMPLER_SIZES = {"layers": 2, "heads": 4, "inner": 32}


def _files_are_named(config: pytest.Config) -> bool:
    """Whether the command line names test files (or tests in them), and no folder."""
    return config.args_source is pytest.Config.ArgsSource.ARGS and all(Path(arg.partition("::")[0]).is_file() for arg in config.args)


def pytest_configure(config: pytest.Config) -> None:
    """A file that is named runs whole: the default `-m` is for the suite."""
    if _files_are_named(config) and not any(str(arg).startswith("-m") for arg in config.invocation_params.args):
        config.option.markexpr = ""


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """A file that is named runs in this process: workers take longer to start than most files to run."""
    if not _files_are_named(config):
        return None  # xdist counts the cores
    config.option.dist = "no"
    return 0


@pytest.hookimpl(tryfirst=True)  # before -m selects
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for folder in MARKED_FOLDERS.keys() & set(item.path.parents):
            item.add_marker(MARKED_FOLDERS[folder])


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def world():
    """The miniature's text-to-image model with random weights, frozen."""
    pytest.importorskip("diffusers")
    pytest.importorskip("transformers")
    from hybridbooth_core.miniature.nets import Autoencoder
    from hybridbooth_core.miniature.world_model import new_text_encoder, new_unet, world_model

    torch.manual_seed(11)
    text = new_text_encoder()
    with torch.no_grad():
        for parameter in text.parameters():  # CLIP's own start is so small that words hardly matter
            parameter.add_(0.1 * torch.randn_like(parameter))
    parts = [part.eval().requires_grad_(False) for part in (new_unet(), text, Autoencoder())]
    return world_model(*parts)


@pytest.fixture(scope="session")
def encoders():
    """A CLIP-like and a DINO-like encoder with random weights."""
    from hybridbooth_core.miniature.nets import ImageEncoder

    torch.manual_seed(12)
    return SimpleNamespace(clip=ImageEncoder().eval().requires_grad_(False), dino=ImageEncoder().eval().requires_grad_(False))


@pytest.fixture(scope="session")
def new_probe() -> Callable:
    """A function: regressor kind (and changes to the configuration) to an untrained tiny probe, frozen, always the same one."""
    from hybridbooth_core.probe.probe import Probe, ProbeConfig

    def make(kind: str = "promptnet", **changes) -> Probe:
        sizes = PROMPTNET_SIZES if kind == "promptnet" else RESAMPLER_SIZES
        settings = {"width": 96, "clip": "test/clip@1", "clip_width": 96, "dino": "test/dino@1", "dino_width": 96, "regressor": kind,
                    "sizes": sizes, "embedding_norm": 2.0, "base_model": "a test"} | changes  # fmt: skip
        with torch.random.fork_rng():
            torch.manual_seed(13)
            return Probe(ProbeConfig(**settings)).eval().requires_grad_(False)

    return make


@pytest.fixture(scope="session")
def subject(world, encoders) -> SimpleNamespace:
    """What a person brings, and what is computed from it: two images of one creature with masks (`ref`), `features`, `noun`."""
    from hybridbooth_core.encoders.features import extract_features, reference
    from hybridbooth_core.miniature.render import render
    from hybridbooth_core.miniature.world import creatures, random_scenes, split_numbers

    who = creatures(split_numbers("test", 1).repeat(2))
    images, masks = render(who, random_scenes(2, torch.Generator().manual_seed(3)))
    ref = reference(images, masks)
    features = extract_features(world, encoders.clip, encoders.dino, ref)
    return SimpleNamespace(ref=ref, features=features, noun=world.token_embeddings("cat")[0])


@pytest.fixture
def refuses() -> Callable[..., str]:
    """A function that calls its arguments, expects a `UserError` and nothing else, and returns its message, checked to be a sentence."""

    def call(function: Callable, *args, **kwargs) -> str:
        with pytest.raises(Exception) as caught:
            function(*args, **kwargs)
        assert type(caught.value) is UserError, f"expected a UserError, found {caught.value!r}"
        message = str(caught.value)
        assert 20 < len(message) < 600 and "\n" not in message.strip(), message
        return message

    return call


@pytest.fixture
def state_of() -> Callable[..., dict[str, Tensor]]:
    """A function: modules to a copy of all their parameters and buffers."""

    def copy(*modules: torch.nn.Module) -> dict[str, Tensor]:
        return {f"{i}.{k}": v.clone() for i, module in enumerate(modules) for k, v in module.state_dict().items()}

    return copy


@pytest.fixture(scope="session")
def write_vocabulary() -> Callable[[Path, Iterable[str]], dict[str, int]]:
    """A function: a folder and words to the vocabulary of a tokenizer of CLIP's kind, written there, in which each word is one token."""

    def write(folder: Path, embeddings: Iterable[str]) -> dict[str, int]:
        embeddings = sorted(set(embeddings))
        letters = sorted(set("".join(embeddings)))
        tokens, merges = [*letters, *(letter + "</w>" for letter in letters)], []
        for word in embeddings:
            parts = [*word[:-1], word[-1] + "</w>"]
            while len(parts) > 1:
                merges.append(" ".join(parts[:2]))
                parts = [parts[0] + parts[1], *parts[2:]]
                tokens.append(parts[0])
        vocabulary = {token: i for i, token in enumerate(dict.fromkeys([*tokens, "<|startoftext|>", "<|endoftext|>"]))}
        (folder / "vocab.json").write_text(json.dumps(vocabulary))
        (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *dict.fromkeys(merges)]))
        return vocabulary

    return write


@pytest.fixture
def new_pipeline(tmp_path, write_vocabulary) -> Callable:
    """A function: a text encoder's sizes to a small Stable Diffusion pipeline of diffusers that knows "a photo of cat on snow"."""
    pytest.importorskip("diffusers")
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    def make(width: int, length: int, **sizes) -> StableDiffusionPipeline:
        vocabulary = write_vocabulary(tmp_path, ["a", "photo", "of", "cat", "snow", "on"])
        torch.manual_seed(0)
        text = CLIPTextConfig(
            vocab_size=len(vocabulary), hidden_size=width, max_position_embeddings=length, **sizes,
            bos_token_id=vocabulary["<|startoftext|>"], eos_token_id=vocabulary["<|endoftext|>"],
        )  # fmt: skip
        blocks = {"down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"), "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D")}
        return StableDiffusionPipeline(
            vae=AutoencoderKL(
                block_out_channels=(32, 32), down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2
            ),
            text_encoder=CLIPTextModel(text).eval(),
            tokenizer=CLIPTokenizer(str(tmp_path / "vocab.json"), str(tmp_path / "merges.txt"), model_max_length=length),
            unet=UNet2DConditionModel(
                sample_size=16, block_out_channels=(32, 64), layers_per_block=1, cross_attention_dim=width, **blocks
            ),
            scheduler=DDIMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, clip_sample=False, steps_offset=1),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )  # fmt: skip

    return make


def dataset_words() -> set[str]:
    """Every word of the dataset's prompts."""
    from hybridbooth_core.evaluation.protocol import LIST_FILE, parse_lists

    lists = parse_lists((DATASET / LIST_FILE).read_text())
    texts = [prompt.text(noun) for prompt in (*lists.object_prompts, *lists.live_prompts) for noun in lists.classes.values()]
    return {word.lower() for text in ["photo of", *texts] for word in text.split()}


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory, write_vocabulary) -> Path:
    """SD1.5's layout (four resolutions, cross-attention on three, 77 tokens, a VAE of factor 8) with 32 channels and random weights."""
    pytest.importorskip("diffusers")
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    folder = tmp_path_factory.mktemp("model")
    vocabulary = write_vocabulary(folder, dataset_words())
    torch.manual_seed(0)
    start, end = vocabulary["<|startoftext|>"], vocabulary["<|endoftext|>"]
    text = CLIPTextConfig(
        vocab_size=len(vocabulary), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=77, bos_token_id=start, eos_token_id=end, pad_token_id=end,
    )  # fmt: skip
    vae = AutoencoderKL(
        block_out_channels=(8, 8, 8, 8), norm_num_groups=4, layers_per_block=1,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
    )  # fmt: skip
    unet = UNet2DConditionModel(
        sample_size=8, block_out_channels=(32, 32, 32, 32), norm_num_groups=8, layers_per_block=2, cross_attention_dim=32,
        attention_head_dim=8,
    )  # fmt: skip
    with torch.no_grad():
        for part in (unet, vae):  # as they start, all images would be nearly one grey
            for parameter in part.parameters():
                parameter.add_(0.02 * torch.randn_like(parameter))
    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=CLIPTextModel(text),
        tokenizer=CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=77),
        unet=unet,
        scheduler=DDIMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, clip_sample=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder / "tiny-sd15", safe_serialization=True)
    return folder / "tiny-sd15"


@pytest.fixture(scope="session")
def stock_pipeline() -> Any:
    """A Stable Diffusion pipeline of diffusers in SD1.5's layout with CLIP's whole vocabulary, 32 channels, 64-wide, 512 pixels a side."""
    pytest.importorskip("diffusers")
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    from hybridbooth_core.bases.clip_vocabulary import clip_tokenizer

    torch.manual_seed(5)
    text = CLIPTextConfig(
        vocab_size=49408, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=1, max_position_embeddings=77,
        bos_token_id=49406, eos_token_id=49407, pad_token_id=49407,
    )  # fmt: skip
    vae = AutoencoderKL(
        block_out_channels=(32,) * 4,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        sample_size=512,
    )
    unet = UNet2DConditionModel(sample_size=64, block_out_channels=(32, 32, 64, 64), cross_attention_dim=64, attention_head_dim=8)
    parts = [vae, CLIPTextModel(text), unet]
    with torch.no_grad():
        for part in parts:  # as they start, all images would be nearly one grey, and words would hardly matter
            for parameter in part.parameters():
                parameter.add_(0.03 * torch.randn_like(parameter))
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = clip_tokenizer(Path(folder))
    return StableDiffusionPipeline(
        vae=parts[0], text_encoder=parts[1], unet=parts[2], tokenizer=tokenizer,
        scheduler=DDIMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, clip_sample=False, steps_offset=1),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip


@pytest.fixture(scope="session")
def stock_folder(stock_pipeline, tmp_path_factory) -> Path:
    """That pipeline as diffusers saves it."""
    folder = tmp_path_factory.mktemp("folders") / "small-sd15"
    stock_pipeline.save_pretrained(folder, safe_serialization=True)
    return folder


@pytest.fixture(scope="session")
def write_stock_checkpoint() -> Callable[..., Path]:
    """A function: a path, diffusers' denoiser and autoencoder and transformers' text encoder to one checkpoint in LDM's layout."""
    from safetensors.torch import save_file

    from hybridbooth_core.models.ldm_layout import to_ldm_layout

    def write(path: Path, unet: Any, vae: Any, text_encoder: Any, dtype: torch.dtype = torch.float32) -> Path:
        text = getattr(text_encoder, "text_model", text_encoder)
        tensors = {f"model.diffusion_model.{name}": t for name, t in to_ldm_layout(unet.state_dict()).items()}
        tensors |= {f"cond_stage_model.transformer.text_model.{name}": t for name, t in text.state_dict().items()}
        tensors |= {f"first_stage_model.{name}": t for name, t in _ldm_autoencoder(vae.state_dict()).items()}
        save_file({name: tensor.to(dtype).contiguous() for name, tensor in tensors.items()}, path)
        return path

    return write


@pytest.fixture(scope="session")
def stock_checkpoint(stock_pipeline, write_stock_checkpoint, tmp_path_factory) -> Path:
    """The same weights as one stock checkpoint, in LDM's layout."""
    path = tmp_path_factory.mktemp("checkpoints") / "small-sd15.safetensors"
    return write_stock_checkpoint(path, stock_pipeline.unet, stock_pipeline.vae, stock_pipeline.text_encoder)


def _ldm_autoencoder(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """An AutoencoderKL's tensors by LDM's names; its four levels count backwards on the way up, and its attention is of convolutions."""
    names = [
        (r"down_blocks\.(\d)\.resnets\.", r"down.\1.block."), (r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample"),
        (r"mid_block\.resnets\.0", "mid.block_1"), (r"mid_block\.resnets\.1", "mid.block_2"), (r"mid_block\.attentions\.0", "mid.attn_1"),
        ("conv_norm_out", "norm_out"), ("conv_shortcut", "nin_shortcut"), ("group_norm", "norm"),
        (r"to_q\b", "q"), (r"to_k\b", "k"), (r"to_v\b", "v"), (r"to_out\.0", "proj_out"),
    ]  # fmt: skip
    renamed = {}
    for name, tensor in state.items():
        ldm = re.sub(
            r"up_blocks\.(\d)\.(?:resnets|upsamplers\.0)",
            lambda m: f"up.{3 - int(m[1])}." + ("block" if "resnets" in m[0] else "upsample"),
            name,
        )
        for pattern, replacement in names:
            ldm = re.sub(pattern, replacement, ldm)
        renamed[ldm] = tensor[..., None, None] if ".attn_1." in ldm and tensor.ndim == 2 else tensor
    return renamed
