"""What the user says of the photo becomes the prompt of the steps; otherwise templates that fit any photo take turns."""

from __future__ import annotations

import pytest
import torch

from hybridbooth_core.encoders.features import reference
from hybridbooth_core.models.memory import memory_plans
from hybridbooth_core.refine.captions import TEMPLATES, templates
from hybridbooth_core.refine.many import refine_many
from hybridbooth_core.refine.refine import RefineConfig, refine
from hybridbooth_core.refine.task import Task


def images(count: int):
    return reference(torch.rand(count, 64, 64, 3, generator=torch.Generator().manual_seed(0)))


def prompts(world, caption: str, count: int, samples: int) -> list[list[str]]:
    """The texts around the embeddings, for each sample of a step."""
    task = Task(world, images(count), RefineConfig(caption=caption), memory_plans(samples, world.image_size)[0])
    request = task.loss_request(torch.zeros(5, 96), *task.sample(samples, torch.Generator().manual_seed(0)), with_masks=False)
    return [[piece for piece in request.prompts[i] if isinstance(piece, str)] for i in request.prompt_index.tolist()]


@pytest.mark.parametrize("caption", ["", " \n"])
def test_without_a_caption_templates_take_turns_with_the_images(world, caption):
    assert templates(caption, 2) == [list(TEMPLATES)] * 2
    assert prompts(world, caption, 2, 5) == [["a photo of"], ["a photo of"], ["a photo of a"], ["a photo of a"], ["a photo of"]]


def test_a_caption_puts_the_subject_where_it_says(world):
    assert prompts(world, "a sketch of a small <subject> on snow", 1, 3) == [["a sketch of a small", "on snow"]] * 3
    assert prompts(world, "on snow", 1, 3) == [["a photo of", "on snow"], ["a photo of a", "on snow"], ["a photo of", "on snow"]]


def test_every_image_may_have_a_line_of_its_own(world):
    assert prompts(world, "a photo of <subject> on snow\nat night", 2, 4) == [
        ["a photo of", "on snow"], ["a photo of", "at night"], ["a photo of", "on snow"], ["a photo of a", "at night"],
    ]  # fmt: skip
    assert prompts(world, "on snow", 2, 2) == [["a photo of", "on snow"]] * 2


def test_captions_that_fit_nothing_are_refused(refuses):
    assert "3 lines" in refuses(templates, "on snow\non grass\nat night", 2)
    assert "2 times" in refuses(templates, "<subject> beside <subject>", 1)


def test_a_caption_changes_the_steps_and_its_words_are_checked_before_them(world, refuses):
    start, steps = torch.randn(5, 96, generator=torch.Generator().manual_seed(1)), []
    config = RefineConfig(mode="words", steps=2)
    plain, said = (
        refine(world, images(1), start[-1], RefineConfig(mode="words", steps=2, caption=c), start=start) for c in ("", "on snow")
    )
    assert not torch.equal(plain.embeddings, said.embeddings) and plain.validation[0] != said.validation[0]
    with pytest.raises(Exception, match="unheard"):
        refine(world, images(1), start[-1], RefineConfig(mode="words", steps=2, caption="unheard"), start=start, on_step=steps.append)
    assert not steps
    together = refine_many(world, [images(1)] * 2, [start[-1]] * 2, config, starts=[start] * 2, captions=["", "on snow"])
    for one, alone in zip(together, (plain, said), strict=True):
        torch.testing.assert_close(one.embeddings, alone.embeddings, rtol=1e-4, atol=1e-5)
