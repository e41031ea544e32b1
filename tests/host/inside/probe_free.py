"""The nodes that need no probe: on the miniature, against the core on transformers' text encoder; and word mappers on Stable Diffusion 1.5.

Run in ComfyUI's own Python by `test_probe_free` with a Stable Diffusion 1.5 checkpoint and a folder that holds a mapper, `phi.safetensors`.
"""
# pyright: reportMissingImports=false

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import inside

checkpoint, folder = Path(sys.argv[1]), Path(sys.argv[2])
inside.start()

import comfy.clip_model  # noqa: E402
import comfy.model_management  # noqa: E402
import comfy.ops  # noqa: E402
import comfy.sd  # noqa: E402
import folder_paths  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402
from pack.hybridbooth_core.encoders.clip_space import ClipSpace  # noqa: E402
from pack.hybridbooth_core.encoders.features import reference, square_crops  # noqa: E402
from pack.hybridbooth_core.errors import UserError  # noqa: E402
from pack.hybridbooth_core.mappers.files import load  # noqa: E402
from pack.hybridbooth_core.miniature.bundle import load_clip_space, read_base  # noqa: E402
from pack.hybridbooth_core.miniature.vocabulary import MiniatureTokenizer  # noqa: E402
from pack.hybridbooth_core.miniature.world_model import new_text_encoder  # noqa: E402
from pack.hybridbooth_core.probe_free.space import encode_texts  # noqa: E402
from pack.nodes import mappers, probe_free  # noqa: E402
from pack.nodes.errors import HybridBoothError  # noqa: E402
from pack.nodes.host import text_model  # noqa: E402
from pack.nodes.host.folders import register_probe_folder  # noqa: E402
from pack.nodes.host.miniature import load_miniature_world  # noqa: E402
from pack.nodes.host.text_model import host_text  # noqa: E402
from pack.nodes.host.vision import WiredClipVision  # noqa: E402
from pack.nodes.miniature import MiniatureCreature  # noqa: E402

TEXTS = ["a photo of a cat", "a sketch of a striped red robot with a hat on snow", "fish"]


def standalone_states() -> torch.Tensor:
    """The end-of-text states [B, d] of `TEXTS` by transformers, each without any padding."""
    text = new_text_encoder()
    inner = getattr(text, "text_model", text)
    weights = {k.removeprefix("text_model."): t for k, t in read_base().items() if k.startswith("text_model.")}
    inner.load_state_dict(weights, strict=False)
    tokenizer = MiniatureTokenizer()
    ids = [torch.tensor([[tokenizer.start, *tokenizer.encode(one), tokenizer.end]]) for one in TEXTS]
    return torch.cat([text.eval()(row).last_hidden_state[:, -1] for row in ids]).detach()


def encoded(clip) -> torch.Tensor:
    return clip.encode_from_tokens(clip.tokenize("a photo of a red cat"))


def said(call) -> str:
    try:
        call()
    except (UserError, HybridBoothError) as error:
        return str(error)
    return "nothing"


def small_vision() -> tuple[SimpleNamespace, object]:
    """A stock CLIP_VISION of CLIP ViT-L/14's tokens with three layers, and transformers' of the same weights."""
    sizes = {"hidden_size": 1024, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 16, "patch_size": 14,
             "image_size": 224, "projection_dim": 768}  # fmt: skip
    torch.manual_seed(0)
    theirs = transformers.CLIPVisionModelWithProjection(transformers.CLIPVisionConfig(**sizes)).eval()
    config = {**sizes, "hidden_act": "quick_gelu", "num_channels": 3, "model_type": "clip_vision_model"}
    stock = comfy.clip_model.CLIPVisionModelProjection(config, torch.float32, "cpu", comfy.ops.manual_cast)
    stock.load_state_dict(theirs.state_dict(), strict=False)
    cpu = torch.device("cpu")
    return SimpleNamespace(model=stock, patcher=comfy.model_patcher.ModelPatcher(stock, cpu, cpu)), theirs


results: dict[str, object] = {}
space = load_clip_space()
with torch.inference_mode():
    model, clip, vae = load_miniature_world()
    image, mask, noun = MiniatureCreature.execute(3, "grass", "middle", "big", "none", "photo").args
    before = encoded(clip)
    skipping = clip.clone()
    skipping.clip_layer(-2)
    with host_text(clip) as host:
        found = encode_texts(host, space.project_text, [[text] for text in TEXTS])
        with torch.enable_grad():
            leaf = torch.ones(2, 96, requires_grad=True)
            encode_texts(host, space.project_text, [["a photo of a", leaf]]).sum().backward()
        results["gradient"] = bool((leaf.grad.norm(dim=1) > 0).all())
    results["points"] = inside.relative(standalone_states() @ space.project_text.weight.T, found)
    with host_text(skipping) as host:
        results["skip"] = inside.relative(found, encode_texts(host, space.project_text, [[text] for text in TEXTS]))

    started, report = probe_free.ProbeFreeStart.execute(clip, image, noun, 5, 3, mask).args
    retrieved = probe_free.ProbeFreeStart.execute(clip, image, "", 2, 0, mask).args
    results["start"] = [list(started.embeddings.shape), started.info.class_noun == noun, started.info.method, report]
    results["retrieved"] = [list(retrieved[0].embeddings.shape), retrieved[0].info.class_noun, retrieved[1]]
    refined, lines, drawn = probe_free.RefineSubject.execute(model, clip, vae, started, image, 3, 0.0, 1, mask).args
    results["refined"] = [refined.info.steps, refined.info.method, refined.info.step_size, lines, list(drawn.shape[-1:])]
    results["lower"] = min(refined.info.validation) < refined.info.validation[0]
    results["ordinary"] = not any(tensor.is_inference() for tensor in (started.embeddings, refined.embeddings))
    results["untouched"] = bool(torch.equal(before, encoded(clip)))
    results["unknown"] = said(lambda: probe_free.ProbeFreeStart.execute(clip, image, "zebra", 5, 0, mask))

    stock, theirs = small_vision()
    crops = torch.rand(2, 224, 224, 3)
    pixels = crops.movedim(-1, 1)
    from pack.hybridbooth_core.encoders.pixels import CLIP_MEAN, CLIP_STD, normalise

    with torch.inference_mode(False), torch.no_grad():
        states = theirs.vision_model(pixel_values=normalise(crops, CLIP_MEAN, CLIP_STD), output_hidden_states=True).hidden_states
        results["states"] = inside.relative(torch.stack([states[3], states[1]], 1), WiredClipVision(stock).states(crops, (3, 1)))

    sd15, clip15, vae15, _ = comfy.sd.load_checkpoint_guess_config(str(checkpoint), embedding_directory=None)
    register_probe_folder()
    folder_paths.folder_names_and_paths["hybridbooth"] = ([str(folder)], {".safetensors"})
    for kind in ("clip_vision", "diffusers"):
        folder_paths.folder_names_and_paths[kind] = ([], {".safetensors"})
    torch.manual_seed(1)
    projection = torch.nn.Linear(768, 768, bias=False).requires_grad_(False)
    eyes = SimpleNamespace(size=224, embed=lambda shown: shown.mean((1, 2)) @ torch.ones(3, 768))
    results["no file"] = [
        said(lambda: probe_free.ProbeFreeStart.execute(clip15, image, "cat", 5, 1, mask)),
        said(lambda: mappers.MapperWords.execute("phi.safetensors", clip15, image, "cat", mask)),
        said(lambda: mappers.MapperWords.execute("none.safetensors", clip15, image, "cat", mask)),
    ]
    results["listed"] = mappers.MapperWords.define_schema().inputs[0].options
    mappers.host_clip_vision = lambda clip_vision, projection: eyes
    text_model.host_clip_space = lambda clip_vision: ClipSpace(eyes.embed, 224, projection)
    guessed, info = mappers.MapperWords.execute("phi.safetensors", clip15, image, "cat", mask).args
    with torch.inference_mode(False), torch.no_grad():
        ref = reference(image, mask)
        word = load(folder / "phi.safetensors")(eyes.embed(square_crops(ref.images, ref.masks, 224)))[0]
    with host_text(clip15) as host:
        row = host.token_embeddings("cat").cpu()
    results["guessed"] = [inside.relative(torch.cat([word, row]), guessed.embeddings), info, guessed.info.licence]
    begun = probe_free.ProbeFreeStart.execute(clip15, image, "cat", 5, 0, mask).args[0]
    results["sd15 start"] = inside.relative(row.expand(5, -1), begun.embeddings)
    results["other family"] = said(lambda: mappers.MapperWords.execute("phi.safetensors", clip, image, "cat", mask))
inside.report(results)
