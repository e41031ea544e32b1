"""What the encoders see, against pixels by hand. Crops here have the size of what they cut out, so that nothing is resized."""

from collections import Counter

import pytest
import torch

from hybridbooth_core.encoders.features import GREY, square_crops
from hybridbooth_core.training.augmentation import MARGINS, Augmentation, augmented, augmented_batch, draw_augmentation
from hybridbooth_core.training.config import Data

TOP, LEFT, BOX = 10, 30, 20  # of the subject, in 64 x 64


@pytest.fixture
def image():
    return torch.rand(64, 64, 3)


@pytest.fixture
def mask():
    mask = torch.zeros(64, 64)
    mask[TOP : TOP + BOX, LEFT : LEFT + BOX] = 1
    return mask


def test_without_augmentation_it_is_the_crop_of_inference(image, mask):
    assert torch.equal(augmented(image, mask, Augmentation(), 48), square_crops(image[None], mask[None], 48)[0])
    assert torch.equal(augmented(image, None, Augmentation(), 48), square_crops(image[None], None, 48)[0])
    assert torch.equal(augmented(image, mask, Augmentation(whole=True), 64), image)


@pytest.mark.parametrize("margin", [0.0, 0.1, 0.3])
def test_the_margin_is_what_is_kept_around_the_subjects_box(margin, image, mask):
    around = round(BOX * margin)
    side = BOX + 2 * around
    expected = torch.full((side, side, 3), GREY)
    expected[around : around + BOX, around : around + BOX] = image[TOP : TOP + BOX, LEFT : LEFT + BOX]
    assert torch.equal(augmented(image, mask, Augmentation(margin=margin), side), expected)


@pytest.mark.parametrize("given", [True, False])
def test_mirrored_is_left_for_right(given, image, mask):
    mask = mask if given else None
    plain, mirrored = (augmented(image, mask, Augmentation(mirrored=turned), 40) for turned in (False, True))
    assert torch.equal(mirrored[:, 0], plain[:, 39]) and torch.equal(mirrored[:, 39], plain[:, 0]) and not torch.equal(mirrored, plain)


def test_light_falls_on_the_subject_and_leaves_the_grey(image, mask):
    augmentation = Augmentation(margin=0.5, brightness=-0.1, contrast=1.2)
    crop = augmented(image, mask, augmentation, 40)
    expected = torch.full((40, 40, 3), GREY)
    expected[10:30, 10:30] = ((image[TOP : TOP + BOX, LEFT : LEFT + BOX] - 0.5) * 1.2 + 0.4).clamp(0, 1)
    torch.testing.assert_close(crop, expected)
    torch.testing.assert_close(augmented(image, None, augmentation, 64), ((image - 0.5) * 1.2 + 0.4).clamp(0, 1))


def test_light_changes_all_colours_alike(mask):
    grey = torch.rand(64, 64, 1).expand(64, 64, 3)
    crop = augmented(grey, mask, Augmentation(brightness=0.2, contrast=0.8), 40)
    assert torch.equal(crop[..., 0], crop[..., 1]) and torch.equal(crop[..., 0], crop[..., 2])


def test_a_backdrop_shows_where_the_subject_is_not_and_in_its_own_light(image, mask):
    """The crop is the image's own square around a centred subject, so pixel lies on pixel."""
    mask = torch.zeros(64, 64)
    mask[16:48, 16:48] = 1
    backdrop = torch.rand(64, 64, 3)
    crop = augmented(image, mask, Augmentation(margin=0.5, backdrop=backdrop), 64)
    torch.testing.assert_close(crop[mask == 0], backdrop[mask == 0])
    torch.testing.assert_close(crop[mask == 1], image[mask == 1])
    lit = augmented(image, mask, Augmentation(margin=0.5, brightness=0.1, contrast=0.9, backdrop=backdrop), 64)
    torch.testing.assert_close(lit[mask == 0], backdrop[mask == 0])
    torch.testing.assert_close(lit[mask == 1], ((image - 0.5) * 0.9 + 0.6)[mask == 1].clamp(0, 1))


def test_a_backdrop_also_fills_what_lies_beyond_the_image(image):
    mask = torch.zeros(64, 64)
    mask[:20, :20] = 1
    crop = augmented(image, mask, Augmentation(margin=0.5, backdrop=torch.tensor([1.0, 0, 0]).expand(64, 64, 3)), 40)
    torch.testing.assert_close(crop[:10], torch.tensor([1.0, 0, 0]).expand(10, 40, 3))
    torch.testing.assert_close(crop[10:30, 10:30], image[:20, :20])


def test_where_a_mask_is_soft_both_show_by_its_share(image):
    mask = torch.zeros(64, 64)
    mask[16:48, 16:48] = 1
    mask[20:24, 20:24] = 0.25
    backdrop = torch.rand(64, 64, 3)
    crop = augmented(image, mask, Augmentation(margin=0.5, backdrop=backdrop), 64)
    torch.testing.assert_close(crop[20:24, 20:24], (0.25 * image + 0.75 * backdrop)[20:24, 20:24])


def test_uncropped_and_unmasked_images_keep_their_background(image, mask):
    backdrop = torch.zeros(64, 64, 3)
    assert torch.equal(augmented(image, mask, Augmentation(whole=True, backdrop=backdrop), 64), image)
    assert torch.equal(augmented(image, None, Augmentation(backdrop=backdrop), 64), image)


def test_all_seen_are_the_single_ones(image, mask):
    augmentations = [Augmentation(), Augmentation(mirrored=True, margin=0.3), Augmentation(whole=True)]
    crops = augmented_batch([image] * 3, [mask, mask, None], augmentations, 30)
    assert all(
        torch.equal(crop, augmented(image, m, augmentation, 30))
        for crop, m, augmentation in zip(crops, [mask, mask, None], augmentations, strict=True)
    )


def augmentations_of(count=2000, others=(), light=True, **shares):
    generator = torch.Generator().manual_seed(0)
    return [draw_augmentation(Data(**shares), generator, 2, others, light) for _ in range(count)]


def test_augmentations_are_as_frequent_as_configured():
    augmentations = augmentations_of(masked=0.8, augment=0.4, background=0.5)
    varied = [augmentation for augmentation in augmentations if augmentation.contrast != 1]
    assert sum(augmentation.whole for augmentation in augmentations) / 2000 == pytest.approx(0.2, abs=0.03)
    assert len(varied) / 2000 == pytest.approx(0.4, abs=0.04)
    assert sum(augmentation.mirrored for augmentation in varied) / len(varied) == pytest.approx(0.5, abs=0.06)
    assert not any(augmentation.mirrored or augmentation.brightness for augmentation in augmentations if augmentation.contrast == 1)
    cut = [augmentation for augmentation in augmentations if not augmentation.whole]
    assert sum(augmentation.backdrop is not None for augmentation in cut) / len(cut) == pytest.approx(0.5, abs=0.04)
    assert all(augmentation.backdrop is None for augmentation in augmentations if augmentation.whole)
    margins = [augmentation.margin for augmentation in varied]
    assert MARGINS[0] <= min(margins) < 0.05 and 0.27 < max(margins) <= MARGINS[1]
    assert (
        max(abs(augmentation.brightness) for augmentation in augmentations) <= 0.2
        and max(abs(augmentation.contrast - 1) for augmentation in augmentations) <= 0.2
    )


def test_nothing_is_varied_where_nothing_should_be():
    assert all(vars(augmentation) == vars(Augmentation()) for augmentation in augmentations_of(50, masked=1, augment=0, background=0))
    assert all(augmentation.brightness == 0 and augmentation.contrast == 1 for augmentation in augmentations_of(50, light=False, augment=1))


def test_backdrops_are_noise_colours_or_others_and_only_the_chosen_is_got():
    got = []

    def other():
        got.append(1)
        return torch.full((2, 2, 3), 7.0)

    def kind(augmentation):
        if bool((augmentation.backdrop == 7).all()):
            return "other"
        return "colour" if bool((augmentation.backdrop == augmentation.backdrop[0, 0]).all()) else "noise"

    kinds = Counter(map(kind, augmentations_of(900, [other], masked=1, background=1, augment=0)))
    assert kinds.keys() == {"other", "colour", "noise"} and min(kinds.values()) > 240 and len(got) == kinds["other"]
    assert Counter(map(kind, augmentations_of(100, masked=1, background=1))).keys() == {"colour", "noise"}
