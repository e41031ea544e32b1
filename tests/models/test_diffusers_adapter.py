"""The adapter of diffusers and transformers, against direct calls of these libraries."""

from __future__ import annotations

import pytest
import torch

from hybridbooth_core.miniature.vocabulary import MiniatureTokenizer
from hybridbooth_core.models.adapter import AttentionCapture

TIMES = torch.tensor([999, 500])


def plain_context(world, ids: list[int], rows: dict[int, torch.Tensor] | None = None) -> torch.Tensor:
    """The text encoder's output for one padded row of ids, with some token embeddings replaced by column."""
    tokenizer = world.tokenizer
    row = torch.tensor([[tokenizer.start, *ids, tokenizer.end] + [tokenizer.pad] * (tokenizer.length - 2 - len(ids))])
    if not rows:
        return world.text_encoder(row).last_hidden_state
    table = world._table
    embeddings = torch.nn.functional.embedding(row, table.weight).clone()
    for column, value in rows.items():
        embeddings[0, column] = value
    positions = world._text.embeddings.position_embedding(torch.arange(row.shape[1]))[None]
    x, length = embeddings + positions, row.shape[1]
    mask = torch.full((length, length), float("-inf")).triu(1)[None, None]
    for layer in world._text.encoder.layers:
        out = layer(x, attention_mask=mask, causal_attention_mask=None)  # transformers 4 asks for both
        x = out[0] if isinstance(out, tuple) else out
    return world._text.final_layer_norm(x)


@pytest.fixture(scope="module")
def inputs(world):
    generator = torch.Generator().manual_seed(2)
    noisy = torch.randn(2, 16, 8, 8, generator=generator)
    embeddings = 0.5 * torch.randn(5, 96, generator=generator)
    with torch.no_grad():
        encoded = world.encode_prompts([["a photo of", embeddings], ["a", embeddings, "on snow"]])
    return noisy, embeddings, encoded


def test_plain_text_is_encoded_as_transformers_does(world):
    text = "a photo of a small cat with a hat, on snow"
    with torch.no_grad():
        encoded = world.encode_prompts([[text], ["a", "cat"], [""], []])
        for row, plain in enumerate((text, "a cat", "", "")):
            expected = plain_context(world, MiniatureTokenizer().encode(plain))[0]
            torch.testing.assert_close(encoded.context[row], expected, atol=1e-5, rtol=1e-5)
    assert encoded.context.shape == (4, 32, 96) and encoded.columns.shape == (4, 0)


def test_embeddings_are_inserted_before_positions(world, inputs):
    _, embeddings, encoded = inputs
    encode = MiniatureTokenizer().encode
    assert encoded.columns.tolist() == [[4, 5, 6, 7, 8], [2, 3, 4, 5, 6]]
    for row, (before, after) in enumerate(((encode("a photo of"), []), (encode("a"), encode("on snow")))):
        rows = {1 + len(before) + i: embeddings[i] for i in range(5)}
        with torch.no_grad():
            expected = plain_context(world, [*before, *[1] * 5, *after], rows)[0]
        torch.testing.assert_close(encoded.context[row], expected, atol=1e-5, rtol=1e-5)


def test_a_words_embedding_is_equivalent_to_the_word(world):
    with torch.no_grad():
        by_tensor = world.encode_prompts([["a photo of a", world.token_embeddings("red cat"), "on snow"]]).context
        by_text = world.encode_prompts([["a photo of a red cat on snow"]]).context
    assert torch.equal(by_tensor, by_text)


def test_several_subjects_of_one_prompt_keep_their_order(world, inputs):
    _, embeddings, _ = inputs
    with torch.no_grad():
        encoded = world.encode_prompts([[embeddings[:2], "and", embeddings[2:]]])
        swapped = world.encode_prompts([[embeddings[2:], "and", embeddings[:2]]])
    assert encoded.columns.tolist() == [[1, 2, 4, 5, 6]]
    assert not torch.allclose(encoded.context, swapped.context, atol=1e-3)


def test_token_embeddings_are_rows_of_the_table(world):
    rows = world.token_embeddings("red cat")
    assert torch.equal(rows, world.token_table()[MiniatureTokenizer().encode("red cat")])
    assert rows.dtype == torch.float32 and not rows.requires_grad and world.token_embeddings("").shape == (0, 96)


def test_gradients_reach_the_embeddings_alone(world, inputs):
    noisy, embeddings, _ = inputs
    leaf = embeddings.clone().requires_grad_()
    encoded = world.encode_prompts([["a photo of", leaf]] * 2)
    capture = AttentionCapture(encoded.columns)
    loss = world.predict_noise(noisy, TIMES, encoded.context, capture).square().mean() + capture.maps[0].mean()
    (gradient,) = torch.autograd.grad(loss, leaf)
    step = torch.zeros_like(embeddings)
    step[2, 7] = 1e-2

    def at(w):
        with torch.no_grad():
            e = world.encode_prompts([["a photo of", w]] * 2)
            t = AttentionCapture(e.columns)
            return world.predict_noise(noisy, TIMES, e.context, t).double().square().mean() + t.maps[0].double().mean()

    slope = (at(embeddings + step) - at(embeddings - step)) / 2e-2
    assert gradient[2, 7].item() == pytest.approx(slope.item(), rel=0.05, abs=1e-5)
    assert all(p.grad is None for p in (*world.unet.parameters(), *world.text_encoder.parameters()))


def test_predicted_noise_is_converted_from_the_unets_v_prediction(world, inputs):
    diffusers = pytest.importorskip("diffusers")
    noisy, _, encoded = inputs
    scheduler = diffusers.DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    with torch.no_grad():
        velocity = world.unet(noisy, TIMES, encoder_hidden_states=encoded.context).sample
        found = world.predict_noise(noisy, TIMES, encoded.context)
    alpha = scheduler.alphas_cumprod[TIMES].sqrt()[:, None, None, None]
    torch.testing.assert_close(found, alpha * velocity + (1 - alpha**2).sqrt() * noisy, atol=1e-5, rtol=1e-4)


def test_captured_maps_agree_with_diffusers_attention(world, inputs):
    """Against `Attention.get_attention_scores` of every cross-attention, in order of execution."""
    noisy, _, encoded = inputs
    expected, hooks = [], []

    def record(module, args, kwargs, output):
        query = module.head_to_batch_dim(module.to_q(args[0] if args else kwargs["hidden_states"]))
        key = module.head_to_batch_dim(module.to_k(kwargs["encoder_hidden_states"]))
        scores = module.get_attention_scores(query, key)
        expected.append(scores.view(2, module.heads, *scores.shape[1:]))

    for name, module in world.unet.named_modules():
        if name.endswith("attn2"):
            hooks.append(module.register_forward_hook(record, with_kwargs=True))
    try:
        with torch.no_grad():
            world.unet(noisy, TIMES, encoded.context)
    finally:
        for hook in hooks:
            hook.remove()
    capture = AttentionCapture(encoded.columns)
    with torch.no_grad():
        world.predict_noise(noisy, TIMES, encoded.context, capture)
    assert len(capture.maps) == len(expected) == 7
    for found, scores in zip(capture.maps, expected, strict=True):
        chosen = torch.stack([scores[row][..., encoded.columns[row]] for row in range(2)])
        torch.testing.assert_close(found, chosen, atol=1e-6, rtol=1e-4)


def test_with_more_than_two_resolutions_the_finest_is_not_captured(world):
    diffusers = pytest.importorskip("diffusers")
    from hybridbooth_core.miniature.world_model import UNET_CONFIG
    from hybridbooth_core.models.diffusers_adapter import DiffusersModel

    deep = {"block_out_channels": (32, 32, 32), "down_block_types": ("CrossAttnDownBlock2D",) * 2 + ("DownBlock2D",),
            "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 2}  # fmt: skip
    unet = diffusers.UNet2DConditionModel(**{**UNET_CONFIG, **deep}).requires_grad_(False)
    model = DiffusersModel("deep", unet, world.text_encoder, world.tokenizer, world.coder, world.schedule, 64)
    capture = AttentionCapture(torch.tensor([[1, 2]]))
    with torch.no_grad():
        model.predict_noise(torch.randn(1, 16, 8, 8), TIMES[:1], torch.randn(1, 32, 96), capture)
    assert [layer.shape[2] for layer in capture.maps] == [16, 4, 16, 16]  # down 1, middle, up 1; none of the 64 cells of the finest


def test_capture_and_insertion_leave_no_hooks_and_no_difference(world, inputs):
    noisy, _, encoded = inputs
    with torch.no_grad():
        before = world.predict_noise(noisy, TIMES, encoded.context)
        captured = world.predict_noise(noisy, TIMES, encoded.context, AttentionCapture(encoded.columns))
        with pytest.raises(RuntimeError):
            world.predict_noise(noisy, TIMES, encoded.context[..., :5], AttentionCapture(encoded.columns))
    assert torch.equal(before, captured)
    modules = [*world.unet.modules(), *world.text_encoder.modules()]
    assert not any(module._forward_hooks for module in modules)


def test_a_prompt_that_fills_the_context_is_accepted_and_a_longer_one_refused(world, refuses):
    embeddings = torch.zeros(5, 96)
    assert world.encode_prompts([["cat " * 25, embeddings]]).context.shape[1] == 32
    message = refuses(world.encode_prompts, [["cat " * 26, embeddings]])
    assert "found 31" in message and "at most 30 tokens" in message


def test_an_unknown_word_is_named(world, refuses):
    assert "'dinosaur'" in refuses(world.encode_prompts, [["a photo of a dinosaur"]])


@pytest.mark.parametrize("shape", [(5, 768), (96,), (1, 5, 96)])
def test_embeddings_of_another_shape_are_refused(world, shape):
    with pytest.raises(ValueError, match=r"\[n, 96\]"):
        world.encode_prompts([["a", torch.zeros(shape)]])


def test_prompts_with_different_numbers_of_subject_tokens_are_refused(world):
    with pytest.raises(ValueError, match="same number"):
        world.encode_prompts([["a", torch.zeros(5, 96)], ["a", torch.zeros(2, 96)]])


def test_parts_of_different_models_are_refused(world, refuses):
    diffusers = pytest.importorskip("diffusers")
    from hybridbooth_core.miniature.world_model import UNET_CONFIG
    from hybridbooth_core.models.diffusers_adapter import DiffusersModel

    unet = diffusers.UNet2DConditionModel(**{**UNET_CONFIG, "cross_attention_dim": 64})
    message = refuses(DiffusersModel, "mix", unet, world.text_encoder, world.tokenizer, world.coder, world.schedule, 64)
    assert "64" in message and "96" in message


def test_the_fingerprint_depends_on_the_token_embeddings(world):
    from hybridbooth_core.miniature.world_model import new_text_encoder, world_model

    torch.manual_seed(1)
    other = world_model(world.unet, new_text_encoder(), world.coder)
    assert len(world.fingerprint) == 16 and world.fingerprint == world.fingerprint != other.fingerprint
    same_words = world_model(world.unet, new_text_encoder(), world.coder)
    same_words._table.weight.data.copy_(world.token_table())
    assert same_words.fingerprint == world.fingerprint


def test_images_go_through_the_coder(world):
    images = torch.rand(2, 64, 64, 3)
    latents = world.encode_image(images)
    assert latents.shape == (2, 16, 8, 8) and torch.equal(latents, world.coder.encode(images))
    decoded = world.decode(latents)
    assert decoded.shape == images.shape and decoded.min() >= 0 and decoded.max() <= 1
