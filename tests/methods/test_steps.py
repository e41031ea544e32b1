"""Training steps of every system against the published recipe, computed plainly in float64 on diffusers', transformers' and peft's objects.

What is drawn (times, noise, class images) is an input; loss, gradient and update are computed here anew.
"""

from __future__ import annotations

import copy

import pytest
import torch
from torch.nn import functional as F

from hybridbooth_core.encoders.features import target_squares
from hybridbooth_core.methods.prior_images import Prior
from hybridbooth_core.methods.registry import run_method
from hybridbooth_core.methods.training import draw_rows
from hybridbooth_core.models.low_rank import attention_layers, kohya_name, new_low_rank
from hybridbooth_core.models.seeds import method_generator

STEPS, SEED, BATCH, WEIGHT, NOUN, TOKEN = 3, 9, 2, 0.5, "cat", "red"
RATE = 1e-3


class Plain:
    """diffusers' training loop in float64, as its scripts have it: instance rows, then class rows, in one batch."""

    def __init__(self, model, ref, class_latents):
        diffusers = pytest.importorskip("diffusers")
        self.unet = copy.deepcopy(model.unet).double()
        self.text = copy.deepcopy(model.text_encoder).double()
        self.tokenizer, self.class_latents = model.tokenizer, class_latents
        self.latents = model.encode_image(target_squares(ref, 64).images)
        self.scheduler = diffusers.DDPMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type=model.schedule.prediction
        )

    def ids(self, text: str) -> list[int]:
        return self.tokenizer.encode(text)

    def context(self, ids: list[int]) -> torch.Tensor:
        t = self.tokenizer
        row = [t.start, *ids, t.end]
        torch.set_default_dtype(torch.float64)  # transformers 4 fills a mask of this type with float64's lowest number
        try:
            return self.text(torch.tensor([row + [t.pad] * (t.length - len(row))])).last_hidden_state
        finally:
            torch.set_default_dtype(torch.float32)

    def new_token(self, start: torch.Tensor) -> int:
        """A row appended to the word table, as the scripts do; its id."""
        table = self.text.resize_token_embeddings(self.text.get_input_embeddings().weight.shape[0] + 1, mean_resizing=False)
        table.weight.requires_grad_(True)
        with torch.no_grad():
            table.weight[-1] = start.double()
        return len(table.weight) - 1

    def loss(self, step: int, context: torch.Tensor) -> torch.Tensor:
        generator = method_generator(SEED, step)
        parts = [(self.latents, context)]
        if self.class_latents is not None:
            parts.append((self.class_latents, self.context(self.ids(f"a photo of a {NOUN}"))))
        rows = [draw_rows(latents, BATCH, 1000, generator) for latents, _ in parts]
        clean = torch.cat([r.latents for r in rows]).double()
        noise, t = torch.cat([r.noise for r in rows]).double(), torch.cat([r.t for r in rows])
        contexts = torch.cat([c.expand(BATCH, -1, -1) for _, c in parts])
        scheduler = self.scheduler
        scheduler.alphas_cumprod = scheduler.alphas_cumprod.double()
        output = self.unet(scheduler.add_noise(clean, noise, t), t, contexts).sample
        velocity = scheduler.config.prediction_type == "v_prediction"
        target = scheduler.get_velocity(clean, noise, t) if velocity else noise
        if self.class_latents is None:
            return F.mse_loss(output, target)
        (own, prior), (own_target, prior_target) = output.chunk(2), target.chunk(2)
        return F.mse_loss(own, own_target) + WEIGHT * F.mse_loss(prior, prior_target)

    def run(self, leaves, context, after_step=lambda: None) -> tuple[list[float], list[torch.Tensor]]:
        """Losses of all steps, and the smallest gradient (but 0, which moves nothing) that each entry of each leaf ever had."""
        optimizer = torch.optim.AdamW(leaves, lr=RATE, betas=(0.9, 0.999), weight_decay=1e-2, eps=1e-8)
        losses, smallest = [], [torch.full_like(leaf, float("inf")) for leaf in leaves]
        for step in range(1, STEPS + 1):
            loss = self.loss(step, context())
            optimizer.zero_grad()
            loss.backward()
            for least, leaf in zip(smallest, leaves, strict=True):
                least.copy_(torch.where(leaf.grad == 0, least, torch.minimum(least, leaf.grad.abs())))
            optimizer.step()
            after_step()
            losses.append(loss.item())
        return losses, smallest


@pytest.fixture(scope="module", params=["epsilon", "v_prediction"])
def model(request, new_model):
    return new_model(request.param)


@pytest.fixture(scope="module")
def prior(model):
    return Prior(model, steps=2)


def made(name, model, ref, prior=None, **options):
    return run_method(name, model, ref, NOUN, steps=STEPS, rate=RATE, seed=SEED, prior=prior, batch=BATCH, **options)


def same_losses(found: list[float], expected: list[float]) -> None:
    assert found == pytest.approx(expected, rel=2e-4)


def same_update(pairs, tolerance: float) -> None:
    """Quadruples (found, expected, start, smallest gradient): what moved agrees to `tolerance` of a step wherever Adam's sign is certain.

    Entries whose gradient is rounding error (a bias before a normalisation) go either way in Adam, so they are left out; few may be.
    """
    compared = total = 0
    for found, expected, start, gradient in pairs:
        certain = (gradient > 1e-6) & gradient.isfinite()  # among one cell, attention has no gradient at all
        if certain.any():
            assert (expected - start).abs().max() > 0.5 * RATE
            assert (found.double() - expected)[certain].abs().max() < tolerance * RATE
        compared, total = compared + int(certain.sum()), total + certain.numel()
    assert compared > 0.5 * total


def test_textual_inversion(model, ref):
    trained = made("textual_inversion", model, ref, num_tokens=2)
    plain = Plain(model, ref, None)
    start = plain.text.get_input_embeddings().weight[plain.ids(NOUN)[0]].clone()
    rows = [plain.new_token(start), plain.new_token(start)]
    table = plain.text.get_input_embeddings().weight
    before = table.detach().clone()

    def restore():  # the scripts put every other row back
        with torch.no_grad():
            table[: rows[0]] = before[: rows[0]]

    losses, gradients = plain.run([table], lambda: plain.context([*plain.ids("a photo of a"), *rows]), restore)
    same_losses(trained.losses, losses)
    same_update([(trained.artefact.embeddings, table.detach()[rows], before[rows], gradients[0][rows])], 5e-4)


def test_dreambooth_full(model, ref, prior):
    trained = made("dreambooth", model, ref, prior, token=TOKEN, prior_weight=WEIGHT, prior_images=3)
    plain = Plain(model, ref, prior.latents(NOUN, 3))
    plain.unet.requires_grad_(True)
    names, leaves = zip(*plain.unet.named_parameters(), strict=True)
    starts = [leaf.detach().clone() for leaf in leaves]
    context = plain.context(plain.ids(f"a photo of a {TOKEN} {NOUN}")).detach()
    losses, gradients = plain.run(leaves, lambda: context)
    same_losses(trained.losses, losses)
    assert set(trained.artefact.tensors) == set(names)
    found = [trained.artefact.tensors[name] for name in names]
    same_update(zip(found, [leaf.detach() for leaf in leaves], starts, gradients, strict=True), 0.1)


def test_dreambooth_lora(model, ref, prior):
    peft = pytest.importorskip("peft")
    trained = made("dreambooth_lora", model, ref, prior, token=TOKEN, prior_weight=WEIGHT, prior_images=3, rank=2)
    plain = Plain(model, ref, prior.latents(NOUN, 3))
    plain.unet.add_adapter(peft.LoraConfig(r=2, lora_alpha=2, target_modules=["to_k", "to_q", "to_v", "to_out.0"]))
    plain.unet.double()
    generator, leaves, names = method_generator(SEED, 0), [], []
    places = {kohya_name(name): name for name, _ in model.unet.named_modules()}
    for name, layer in attention_layers(model.unet).items():
        start = new_low_rank(layer, 2, generator)
        adapted = plain.unet.get_submodule(places[name])
        adapted.lora_A["default"].weight.data = start.down.detach().double()
        adapted.lora_B["default"].weight.data = start.up.detach().double()
        leaves += [adapted.lora_A["default"].weight, adapted.lora_B["default"].weight]
        names += [f"{name}.lora_down.weight", f"{name}.lora_up.weight"]
    trainable = [p for p in plain.unet.parameters() if p.requires_grad]
    assert len(trainable) == len(leaves) == 2 * 128  # 16 transformer blocks x 2 attentions x 4 projections: none missed, none more
    starts = [leaf.detach().clone() for leaf in leaves]
    context = plain.context(plain.ids(f"a photo of a {TOKEN} {NOUN}")).detach()
    losses, gradients = plain.run(leaves, lambda: context)
    same_losses(trained.losses, losses)
    found = [trained.artefact.tensors[name] for name in names]
    same_update(zip(found, [leaf.detach() for leaf in leaves], starts, gradients, strict=True), 0.01)


def test_custom_diffusion(model, ref, prior):
    trained = made("custom_diffusion", model, ref, prior, token=TOKEN, prior_weight=WEIGHT, prior_images=3)
    plain = Plain(model, ref, prior.latents(NOUN, 3))
    row = plain.new_token(plain.text.get_input_embeddings().weight[plain.ids(TOKEN)[0]].clone())
    table = plain.text.get_input_embeddings().weight
    own = {}
    for name, module in plain.unet.named_modules():
        if name.endswith("attn2"):
            own |= {f"{name}.processor.to_{p}_custom_diffusion.weight": getattr(module, f"to_{p}").weight for p in "kv"}
    assert len(own) == 32
    leaves = [*own.values(), table]
    for leaf in leaves:
        leaf.requires_grad_(True)
    starts = [leaf.detach().clone() for leaf in leaves]

    def restore():
        with torch.no_grad():
            table[:row] = starts[-1][:row]

    context = [*plain.ids("a photo of a"), row, *plain.ids(NOUN)]
    losses, gradients = plain.run(leaves, lambda: plain.context(context), restore)
    same_losses(trained.losses, losses)
    tensors = trained.artefact.tensors
    assert set(tensors) == {*own, "emb_params"}
    same_update([(tensors[name], leaves[i].detach(), starts[i], gradients[i]) for i, name in enumerate(own)], 0.005)
    same_update([(tensors["emb_params"][0], table.detach()[row], starts[-1][row], gradients[-1][row])], 5e-4)
