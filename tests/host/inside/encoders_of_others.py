"""Other packs' ways to encode a prompt, re-created by their sequence of calls, with a subject and with its file as a stock embedding.

Run in ComfyUI's own Python by `test_inside`; prints the largest difference for each way, and the notices.
"""
# pyright: reportMissingImports=false

from __future__ import annotations

import re
import tempfile
from functools import partial
from pathlib import Path

import inside

inside.start()

import torch  # noqa: E402
from comfy.sd1_clip import escape_important, token_weights, unescape_important  # noqa: E402
from pack.hybridbooth_core.files.subject import Subject, SubjectInfo  # noqa: E402
from pack.nodes.host import subjects  # noqa: E402
from pack.nodes.host.miniature import load_miniature_world  # noqa: E402

import nodes  # noqa: E402  (the host's own file)

WITH, STOCK = "a photo of (<one>:1.2) on snow, at night", "a photo of (embedding:one:1.2) on snow, at night"
folder = tempfile.mkdtemp()
subject = Subject(torch.randn(5, 96, generator=torch.Generator().manual_seed(0)) * 0.1, SubjectInfo(class_noun="cat"))
subject.save(Path(folder) / "one.safetensors")
_, clip, _ = load_miniature_world()
clip.tokenizer.clip_l.embedding_directory = [folder]
patched = subjects.with_subject(clip, subject, "one", 1.0)
heard: list[str] = []
subjects.notify = heard.append


def stock(clip, text):
    return nodes.CLIPTextEncode().encode(clip, text)[0][0][0]


def by_scheduled_chunks(clip, text):
    """prompt-control: tokens with word ids, chunk by chunk, then `encode_from_tokens_scheduled` or `encode_from_tokens`."""
    clip = clip.clone()
    tokens = clip.tokenize(text, return_word_ids=True)
    without = {key: [[token[:2] for token in batch] for batch in batches] for key, batches in tokens.items()}
    return clip.encode_from_tokens(without)


def by_token_lists(clip, text):
    """ADV_CLIP_emb: the tokens of encoder l alone, their weights taken out and put back as a factor on the encoding."""
    tokens = clip.tokenize(text, return_word_ids=True)["l"]
    weights = torch.tensor([[weight for _, weight, _ in batch] for batch in tokens])
    plain = clip.encode_from_tokens({"l": [[(token, 1.0) for token, _, _ in batch] for batch in tokens]})
    return plain * weights.reshape(1, -1, 1)


def by_inner_tokenizer(clip, text):
    """prompt-control's cutoff: a text encoder's own tokenizer is called."""
    return clip.encode_from_tokens({"l": clip.tokenizer.clip_l.tokenize_with_weights(text)})


def by_text_node(clip, text):
    """rgthree: the stock node, after a LoRA loader's clone of the CLIP."""
    cloned = clip.clone()
    cloned.clip_layer(-1)
    return stock(cloned, text)


def exchanged(self, text, return_word_ids=False, **_):
    """smZNodes' "comfy" parser: its own parsing, the tokenizer's embeddings."""
    batch = [(self.start_token, 1.0)]
    for segment, weight in token_weights(escape_important(text), 1.0):
        words = re.split(r"(?:^| )(embedding:[\w.]+)", unescape_important(segment))
        for word in filter(None, words):
            if word.startswith("embedding:"):
                embedding = self._try_get_embedding(word.removeprefix("embedding:"))[0]
                batch += [] if embedding is None else [(row, weight) for row in embedding]
            else:
                batch += [(token, weight) for token in self.tokenizer(word)["input_ids"][1:-1]]
    batch.append((self.end_token, 1.0))
    return [batch + [(self.pad_token, 1.0)] * (self.max_length - len(batch))]


def by_exchanged_method(clip, text):
    """smZNodes: the inner tokenizer's method is exchanged on the object while its node runs."""
    inner = clip.tokenizer.clip_l
    inner.tokenize_with_weights = partial(exchanged, inner)
    try:
        return stock(clip, text)
    finally:
        del inner.tokenize_with_weights


def dropping(self, text, return_word_ids=False, **_):
    """smZNodes' "A1111" parser: it knows only embeddings in files, and leaves others out."""
    return exchanged(self, re.sub(r"embedding:[\w.]+", "", text))


ways = {f.__name__: f for f in (stock, by_scheduled_chunks, by_token_lists, by_inner_tokenizer, by_text_node, by_exchanged_method)}
found: dict[str, object] = {}
for name, way in ways.items():
    found[name] = float((way(patched, WITH) - way(clip, STOCK)).abs().max())
    found[f"{name} matters"] = float((way(patched, WITH) - way(clip, "a photo of on snow, at night")).abs().max())
found["heard of them"] = list(heard)
patched.tokenizer.clip_l.tokenize_with_weights = partial(dropping, patched.tokenizer.clip_l)
stock(patched, WITH)
found["heard of the one that drops it"] = heard
inside.report(found)
