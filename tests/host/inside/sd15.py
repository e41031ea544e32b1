"""A stock Stable Diffusion 1.5 checkpoint under gradients: weights of all types, LoRAs and clip skip; interrupts, empty memory, attention
that knows no gradients. Whatever happens, MODEL and CLIP are afterwards what they were.

Run in ComfyUI's own Python by `test_sd15` with the checkpoint's path and an empty folder; prints numbers.
"""
# pyright: reportMissingImports=false

from __future__ import annotations

import logging
import sys
from dataclasses import replace
from pathlib import Path

path, folder = Path(sys.argv[1]), Path(sys.argv[2])

import inside  # noqa: E402

inside.start()

import comfy.ldm.modules.attention as attention  # noqa: E402
import comfy.model_management as management  # noqa: E402
import comfy.sd  # noqa: E402
import comfy.utils  # noqa: E402
import folder_paths  # noqa: E402
import torch  # noqa: E402
from pack.hybridbooth_core.encoders.features import reference  # noqa: E402
from pack.hybridbooth_core.models.adapter import AttentionCapture  # noqa: E402
from pack.hybridbooth_core.models.memory import MemoryPlan  # noqa: E402
from pack.hybridbooth_core.refine.refine import RefineConfig, refine  # noqa: E402
from pack.nodes.host.model import host_model  # noqa: E402
from safetensors.torch import save_file  # noqa: E402
from torch import Tensor  # noqa: E402

import nodes  # noqa: E402  (the host's own file)

SIDE, ROWS = 64, 2
PROMPT = "a photo of a red cat on snow"
CONFIG = RefineConfig(mode="words", steps=1, batch=ROWS, validation=2, step_size=0.1)
GENERATOR = torch.Generator().manual_seed(0)
WORDS = torch.randn(5, 768, generator=GENERATOR) * 0.4 / 768**0.5
NOISY = torch.randn(ROWS, 4, SIDE // 8, SIDE // 8, generator=GENERATOR)
MASK = torch.zeros(1, SIDE, SIDE)
MASK[:, 15:50, 10:45] = 1
REF = reference(torch.rand(1, SIDE, SIDE, 3, generator=GENERATOR), MASK)


FILE = comfy.utils.load_torch_file(str(path))


def load(file: dict[str, Tensor] = FILE, layers: int = 12, text: torch.dtype | None = None, **options) -> tuple:
    """MODEL, CLIP and VAE as the stock loader makes them; with fewer layers the text encoder is quicker."""
    text_options = {"clip_l_model_config": {"num_hidden_layers": layers}} | ({} if text is None else {"dtype": text})
    with torch.inference_mode():
        return comfy.sd.load_state_dict_guess_config(dict(file), model_options=options, te_model_options=text_options)[:3]


class Snapshot:
    """Everything about shared networks that a careless borrower might change."""

    def __init__(self, *models: torch.nn.Module):
        self.models = models
        self.weights = [tensor.clone() for tensor in self._tensors()]
        self.rest = self._rest()

    def _tensors(self) -> list[Tensor]:
        return [tensor for model in self.models for tensor in model.state_dict().values()]

    def _rest(self) -> list[tuple]:
        modules = [(name, module) for model in self.models for name, module in model.named_modules()]
        functions = [getattr(module, f"{key}_function", None) for _, module in modules for key in ("weight", "bias")]
        parameters = [parameter for model in self.models for parameter in model.parameters()]
        return [
            *((name, type(module).__name__, "forward" in vars(module)) for name, module in modules),
            ("functions", sum(map(len, filter(None, functions)))),
            *((parameter.grad is None, parameter.requires_grad) for parameter in parameters),
        ]

    def holds(self) -> bool:
        """Whether it is all still so, the weights bit by bit."""
        bits = zip(self.weights, self._tensors(), strict=True)
        same = all(a.dtype == b.dtype and torch.equal(a.flatten().view(torch.uint8), b.flatten().view(torch.uint8)) for a, b in bits)
        return same and self._rest() == self.rest


def gradient(wired: tuple, checkpointing: bool = False) -> tuple[Tensor, Tensor]:
    """The noise, and the gradient to the words of a loss of noise and attention."""
    with torch.inference_mode(), host_model(*wired) as host, host.use_plan(MemoryPlan(checkpointing, ROWS, SIDE)), torch.enable_grad():
        embeddings = WORDS.clone().requires_grad_(True)
        encoded = host.encode_prompts([["a photo of", embeddings], ["a photo of a small", embeddings, "on snow"]])
        capture = AttentionCapture(encoded.columns)
        noise = host.predict_noise(NOISY, torch.tensor([300, 700]), encoded.context, capture)
        (noise.square().mean() + 10 * sum(layer.square().mean() for layer in capture.maps)).backward()
    assert embeddings.grad is not None
    return noise.detach(), embeddings.grad


def refined(wired: tuple, on_step=None, config: RefineConfig = CONFIG):
    with torch.inference_mode(), host_model(*wired) as host:
        host.image_size = SIDE
        return refine(host, REF, host.token_embeddings("cat").mean(0), config, start=WORDS, on_step=on_step)


def distance(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm() / a.norm())


def stock_context(clip) -> Tensor:
    return nodes.CLIPTextEncode().encode(clip, PROMPT)[0][0][0]


def raised(call) -> str:
    try:
        call()
    except BaseException as error:  # the host's interrupt is no Exception
        return f"{type(error).__name__}: {error}"
    return "nothing"


class LogLines(logging.Handler):
    def __init__(self):
        super().__init__(logging.WARNING)
        self.lines: list[str] = []
        logging.getLogger("hybridbooth").addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


model, clip, vae = load()
wired = model, short, vae = model, load(layers=2)[1], vae
before = Snapshot(model.model, clip.cond_stage_model, short.cond_stage_model)
noise, exact = gradient(wired)
results: dict = {"gradient": float(exact.norm()), "after a gradient": before.holds()}
results["checkpointing"] = distance(exact, gradient(wired, checkpointing=True)[1])

# the same weights otherwise stored, and computed in
for name, options in {"fp16 stored": {"dtype": torch.float16}, "bf16 stored": {"dtype": torch.bfloat16}}.items():
    results[name] = distance(exact, gradient((load(layers=1, **options)[0], short, vae))[1])
results["fp16 text"] = distance(exact, gradient((model, load(layers=2, text=torch.float16)[1], vae))[1])
for name, dtype in {"fp16": torch.float16, "bf16": torch.bfloat16}.items():
    half = model.clone()
    half.set_model_compute_dtype(dtype)
    results[name] = [distance(exact, gradient((half, short, vae), checkpointing)[1]) for checkpointing in (False, True)]
eight = load(layers=1, dtype=torch.float8_e4m3fn)[0]
eight_before = Snapshot(eight.model)
rounded = {
    key: tensor.to(torch.float8_e4m3fn).to(tensor.dtype) if key.startswith("model.diffusion_model.") else tensor
    for key, tensor in FILE.items()
}
found = gradient((eight, short, vae))[1]
results["fp8 stored as"] = str(eight.model.diffusion_model.input_blocks[1][0].in_layers[2].weight.dtype)
results["fp8"] = distance(gradient((load(rounded, layers=1)[0], short, vae))[1], found)
results["fp8 and fp32"] = distance(exact, found)
results["after fp8"] = eight_before.holds()
results["after all types"] = before.holds()
del eight, rounded

# LoRAs through the stock loader, and clip skip
UNET, TEXT = "model.diffusion_model.", "cond_stage_model.transformer.text_model."
low = {
    "unet_input_blocks_1_1_transformer_blocks_0_attn2_to_v": (320, UNET, "input_blocks.1.1.transformer_blocks.0.attn2.to_v"),
    "te_text_model_encoder_layers_3_mlp_fc1": (3072, TEXT, "encoder.layers.3.mlp.fc1"),
}
lora, merged = {}, dict(FILE)
for name, (wide, prefix, layer) in low.items():
    up, down = torch.randn(wide, 4, generator=GENERATOR), torch.randn(4, 768, generator=GENERATOR)
    lora |= {f"lora_{name}.lora_up.weight": up * 0.1, f"lora_{name}.lora_down.weight": down * 0.1, f"lora_{name}.alpha": torch.tensor(4.0)}
    merged[f"{prefix}{layer}.weight"] = merged[f"{prefix}{layer}.weight"].float() + 0.01 * up @ down
save_file(lora, folder / "lora.safetensors")
folder_paths.add_model_folder_path("loras", str(folder))
with torch.inference_mode():
    patched = nodes.LoraLoader().load_lora(model, clip, "lora.safetensors", 1.0, 1.0)
    skipping = nodes.CLIPSetLastLayer().set_last_layer(clip, -2)[0]
    contexts = {name: stock_context(used) for name, used in (("plain", clip), ("skip", skipping), ("lora", patched[1]))}
    for name, used in (("plain", clip), ("skip", skipping), ("lora", patched[1])):
        with host_model(model, used, vae) as host:
            results[f"{name} context"] = inside.relative(contexts[name], host.encode_prompts([[PROMPT]]).context)
        results[f"{name} differs"] = inside.relative(contexts["plain"], contexts[name])
by_merging = load(merged)
expected_noise, expected = gradient((by_merging[0], by_merging[1], vae))
found_noise, found = gradient((*patched, vae))
results |= {"lora noise": distance(expected_noise, found_noise), "lora gradient": distance(expected, found),
            "lora matters": distance(gradient((model, clip, vae))[1], found), "after loras": before.holds()}  # fmt: skip
del by_merging, merged

# attention that the host prefers and that knows no gradients, in the denoiser, at the taps and in the text encoder


def preferred(*args, **kwargs):
    if torch.is_grad_enabled():
        raise RuntimeError("this attention knows no gradients")
    return pytorch(*args, **kwargs)


pytorch = attention.get_attention_function("pytorch")
shadowed = {name: getattr(attention, name) for name in ("optimized_attention", "optimized_attention_masked", "attention_pytorch")}
stock_choice = attention.optimized_attention_for_device
for name in shadowed:
    setattr(attention, name, attention.wrap_attn(preferred))
attention.optimized_attention_for_device = lambda *args, **kwargs: attention.optimized_attention
import comfy.clip_model  # noqa: E402

clip_choice, comfy.clip_model.optimized_attention_for_device = (
    comfy.clip_model.optimized_attention_for_device, lambda *args, **kwargs: attention.optimized_attention,
)  # fmt: skip
results["preferred attention"] = distance(exact, gradient(wired)[1])


def without_override() -> None:
    with torch.inference_mode(), host_model(*wired) as host, torch.enable_grad():
        context = host.encode_prompts([[PROMPT]]).context.clone().requires_grad_(True)
        host.patcher.model.apply_model(NOISY[:1], torch.ones(1), c_crossattn=context, transformer_options={})


def without_layers() -> None:
    with torch.inference_mode(), host_model(*wired) as host, torch.enable_grad():
        host.clip.patcher.object_patches.clear()
        host.encode_prompts([["a photo of", WORDS.clone().requires_grad_(True)]])


results["without our override"] = [raised(without_override), raised(without_layers)]
for name, function in shadowed.items():
    setattr(attention, name, function)
attention.optimized_attention_for_device, comfy.clip_model.optimized_attention_for_device = stock_choice, clip_choice

# stopped in the middle
whole = refined(wired)
results["plan"] = str(whole.plan)


def moved_apart(other) -> float:
    return distance(whole.embeddings - whole.start, other.embeddings - whole.start)


def stop(step) -> None:
    management.interrupt_current_processing()


results["interrupt"] = raised(lambda: refined(wired, stop, replace(CONFIG, steps=2)))
management.interrupt_current_processing(False)
results["after an interrupt"] = before.holds()

# out of memory in the middle of a pass, with more than one row
listener, calls = LogLines(), []


def needy(rows: int):
    def attend(query, *args, **kwargs):
        if torch.is_grad_enabled() and len(query) > rows and query.shape[1] == NOISY[0, 0].numel():
            calls.append(len(query))
            if len(calls) % 3 == 0:  # not at the first
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return pytorch(query, *args, **kwargs)

    return attend


attention.REGISTERED_ATTENTION_FUNCTIONS["pytorch"] = needy(1)
fallen = refined(wired)
results |= {"fallen to": str(fallen.plan), "log": list(listener.lines), "fallen": moved_apart(fallen)}
results["after falling"] = before.holds()
attention.REGISTERED_ATTENTION_FUNCTIONS["pytorch"] = needy(0)
results |= {"nothing fits": raised(lambda: refined(wired)), "after nothing fits": before.holds()}
attention.REGISTERED_ATTENTION_FUNCTIONS["pytorch"] = pytorch

# little memory free: known before anything fails; and the host is asked for as much room as the estimate says
asked: list[float] = []
loading, free = management.load_models_gpu, management.get_free_memory


def listening_load(models, memory_required=0, **options):
    asked.append(memory_required)
    return loading(models, memory_required=memory_required, **options)


management.load_models_gpu = listening_load
management.get_free_memory = lambda *args, **kwargs: (whole.memory_estimate or 0) // 3
spared = refined(wired)
management.load_models_gpu, management.get_free_memory = loading, free
results |= {"spared": str(spared.plan), "spared words": moved_apart(spared),
            "estimate": spared.memory_estimate, "asked": max(asked), "memory": spared.memory.grown if spared.memory else None,
            "after sparing": before.holds()}  # fmt: skip

# and the host goes on as before
with torch.inference_mode():
    results["stock context"] = inside.relative(contexts["plain"], stock_context(clip))
inside.report(results)
