"""Three training steps of each method through ComfyUI and through diffusers, on the same weights; and what is left of them in the MODEL.

Run in ComfyUI's own Python by `test_train`; prints relative differences of what was learned.
"""
# pyright: reportMissingImports=false

from __future__ import annotations

import hashlib

import inside
import parity  # starts the host and loads both models
import torch
from pack.hybridbooth_core.encoders.features import reference
from pack.hybridbooth_core.errors import UserError
from pack.hybridbooth_core.files.adapter_weights import NUMBERS, WORD
from pack.hybridbooth_core.files.subject import Subject
from pack.hybridbooth_core.methods.prior_images import Prior
from pack.hybridbooth_core.methods.registry import run_method
from pack.hybridbooth_core.models.lidb import LiDBSpace, lidb_layers
from pack.hybridbooth_core.models.low_rank import attention_layers
from pack.nodes.host.model import host_model
from torch import Tensor

REF = reference(torch.rand(1, 64, 64, 3, generator=torch.Generator().manual_seed(0)))
METHODS = {
    "textual_inversion": {}, "textual_inversion_5": {}, "dreambooth_lora": {"rank": 2, "prior_images": 2},
    "lidb": {"prior_images": 2, "subspace": (8, 4)},    "custom_diffusion": {"prior_images": 2},
}  # fmt: skip
RATES = {"dreambooth_lora": 1e-2, "custom_diffusion": 1e-3}


def learned(model, method: str) -> dict[str, Tensor]:
    """What three steps change."""
    options = {**METHODS[method]}
    prior = Prior(model, steps=2) if "prior_images" in options else None
    made = run_method(method, model, REF, "cat", steps=3, batch=2, rate=RATES.get(method, 1e-2), prior=prior, **options).artefact
    if isinstance(made, Subject):
        return {"words": made.embeddings - model.token_embeddings("cat").cpu()}
    own = {f"{name}": p.detach().float().cpu() for name, p in model.denoiser.named_parameters()}
    changed = {}
    for name, tensor in made.tensors.items():
        weight = name.replace(".processor.to_k_custom_diffusion", ".to_k").replace(".processor.to_v_custom_diffusion", ".to_v")
        changed[name] = tensor - own[weight] if weight in own else tensor
    if NUMBERS in changed:
        changed[NUMBERS] = changed[NUMBERS] - LiDBSpace.of(lidb_layers(model), 8, 4).start()
    if WORD in changed:
        changed[WORD] = changed[WORD] - model.token_embeddings(made.info.token).cpu()
    return {name: tensor for name, tensor in changed.items() if tensor.abs().max() > 0}


def state(model) -> list:
    network = model.model
    weights = hashlib.sha256(b"".join(t.float().numpy().tobytes() for t in network.state_dict().values())).hexdigest()
    hooks = sum(len(module._forward_hooks) for module in network.modules())
    functions = sum(len(getattr(module, "weight_function", [])) for module in network.modules())
    return [weights, hooks, functions, sum(p.grad is not None for p in network.parameters())]


results: dict[str, dict] = {}
for base, standalone, wired in (
    ("miniature", parity.miniature, (parity.model, parity.clip, parity.vae)),
    ("three levels", parity.other, (parity.three, parity.clip, parity.vae)),
):
    found = results[base] = {}
    for method in METHODS:
        expected = learned(standalone, method)
        before = state(wired[0])
        with torch.inference_mode(), host_model(*wired) as host:
            names = list(attention_layers(host.denoiser)), list(attention_layers(standalone.denoiser))
            host.image_size = standalone.image_size
            mine = learned(host, method)
        assert names[0] == names[1], "the layers have other names, or another order"
        assert mine.keys() == expected.keys(), f"{sorted(mine)[:4]} and {sorted(expected)[:4]}"
        found[method] = max(float((expected[key] - mine[key]).norm() / expected[key].norm()) for key in expected)
        found[f"{method} tensors"] = len(expected)
        found[f"{method} leaves"] = state(wired[0]) == before

patched = parity.model.clone()
key = next(name for name in parity.model.model.state_dict() if name.endswith("attn2.to_k.weight"))
patched.add_patches({key: ("diff", (torch.zeros_like(parity.model.model.state_dict()[key]),))}, 1.0)
try:
    with torch.inference_mode(), host_model(patched, parity.clip, parity.vae) as host:
        learned(host, "custom_diffusion")
except UserError as error:
    results["patched"] = {"said": str(error)}
inside.report(results)
