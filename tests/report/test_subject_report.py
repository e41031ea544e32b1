"""The Subject Report, checked in its pixels."""

import pytest
import torch

from hybridbooth_core.encoders.features import reference
from hybridbooth_core.files.subject import Subject, SubjectInfo
from hybridbooth_core.models.adapter import EncodedPrompts
from hybridbooth_core.models.noise_schedule import NoiseSchedule
from hybridbooth_core.report.subject_report import CAPTION, EDGE, FIRST_ROW, GAP, INVERT, LARGE, WIDTH, subject_report, token_attention

INFO = SubjectInfo("cat", method="words", steps=2, step_size=0.5, relative_change=0.1, validation=[0.7, 0.6, 0.65])


class FakeModel:
    """A model whose i-th token attends to the i-th quarter of the image, in two layers; it records its calls as (time, noisy latents)."""

    name, fingerprint, embedding_width, image_size, device = "test", "", 8, 64, torch.device("cpu")
    schedule = NoiseSchedule(torch.linspace(0.999, 0.01, 1000))

    def __init__(self, inner=False):
        self.calls, self.inner = [], inner

    def encode_image(self, images):
        return torch.zeros(len(images), 4, 8, 8)

    def encode_prompts(self, prompts):
        n = len(prompts[0][-1])
        return EncodedPrompts(torch.zeros(1, 77, 8), torch.arange(n)[None], torch.tensor([n]))

    def predict_noise(self, noisy, t, context, capture=None):
        self.calls.append((int(t), noisy.clone()))
        for side in (4, 8):
            maps = torch.full((1, 2, side, side, capture.columns.shape[1]), 0.01)
            for i in range(min(4, capture.columns.shape[1])):
                maps[:, :, i // 2 * side // 2 :, i % 2 * side // 2 :, i][:, :, : side // 2, : side // 2] = 0.2
            if self.inner:  # all tokens attend to the middle alone
                maps = torch.full_like(maps, 0.01)
                maps[:, :, side // 4 : side * 3 // 4, side // 4 : side * 3 // 4] = 0.2
            capture.maps.append(maps.flatten(2, 3))
        return noisy


def test_each_token_has_its_own_map_and_the_noise_is_fixed():
    model, image = FakeModel(), torch.rand(64, 64, 3)
    maps = token_attention(model, image, torch.randn(4, 8))
    assert maps.shape == (4, 64, 64) and abs(maps.mean() - 1) < 1e-5
    for i, attention in enumerate(maps):
        quarters = torch.stack([attention[a : a + 32, b : b + 32].mean() for a in (0, 32) for b in (0, 32)])
        assert quarters.argmax() == i and quarters.max() > 3 * quarters.sort().values[-2]
    first = model.calls[:]
    torch.manual_seed(99)
    token_attention(model, image, torch.randn(4, 8))
    assert [t for t, _ in first] == [300, 500, 700]
    assert all(a[0] == b[0] and torch.equal(a[1], b[1]) for a, b in zip(first, model.calls[3:], strict=True))
    one, two = (noisy / noisy.norm() for _, noisy in first[:2])
    assert (one - two).abs().max() > 0.01, "each time has its own noise"


def test_the_report_shows_the_reference_and_the_attention():
    image = torch.zeros(1, 80, 120, 3)
    image[..., 0] = 0.8
    mask = torch.zeros(1, 80, 120)
    mask[:, 20:60, 30:70] = 1
    report = subject_report(FakeModel(), reference(image, mask), Subject(torch.randn(4, 8), INFO))
    page = report.image
    assert page.shape[1:] == (WIDTH, 3) and page.min() >= 0 and page.max() <= 1 and report.notices == ()
    shown = page[FIRST_ROW : FIRST_ROW + LARGE, EDGE : EDGE + LARGE]
    assert (shown[LARGE // 2, 140] - torch.tensor([0.8, 0, 0])).abs().max() < 0.02, "the subject keeps its colours"
    assert shown[LARGE // 2, 10].std() < 0.02, "the background is faded"
    assert shown[20:40].min() == 1, "a wide image keeps its aspect ratio"
    tokens = page[FIRST_ROW + 2 * (LARGE + GAP + CAPTION) :]
    brightness = [tokens[row : row + 40, column : column + 40].sum(-1).mean() for row in (5, 75) for column in (95, 165)]
    assert max(brightness) == brightness[0], "the first token attends to the upper left quarter"


@pytest.mark.parametrize(("mask", "marked"), [("quarters", False), ("background", True), ("low ratio", False)])
def test_a_mask_of_the_background_is_told_by_the_attention_and_the_border(mask, marked):
    masks = torch.zeros(1, 64, 64)
    masks[:, 8:56, 8:56] = 1  # on the subject, which the words attend to
    if mask == "background":
        masks = 1 - masks
    if mask == "low ratio":
        masks = torch.zeros(1, 64, 64)
        masks[:, 40:, :20] = 1
    model = FakeModel(inner=True)
    report = subject_report(model, reference(torch.rand(1, 64, 64, 3), masks), Subject(torch.randn(4, 8), INFO))
    assert report.notices == ((INVERT,) if marked else ())


def test_subjects_of_every_kind_have_a_report(world, subject):
    ref = subject.ref
    pages = [
        subject_report(world, ref, Subject(torch.zeros(5, 96) + 0.1, INFO)),
        subject_report(world, ref, Subject(torch.randn(5, 96), INFO)),
        subject_report(world, reference(ref.images[:1, 8:]), Subject(torch.randn(1, 96))),
        subject_report(world, reference(ref.images.repeat(6, 1, 1, 1)), Subject(torch.randn(12, 96), INFO)),
    ]
    assert all(bool(torch.isfinite(page).all()) and page.std() > 0.05 for page in [report.image for report in pages])
    pages = [report.image for report in pages]
    assert not torch.equal(pages[0], pages[1]), "other embeddings have other maps"
    assert torch.equal(pages[0], subject_report(world, ref, Subject(torch.zeros(5, 96) + 0.1, INFO)).image), (
        "equal subjects have equal reports"
    )
    assert pages[3].shape[0] > pages[0].shape[0] + 100, "twelve tokens take three rows"
