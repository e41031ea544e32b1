"""The renderer: exact masks, visible attributes, and outputs that depend on the arguments alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from hybridbooth_core.miniature.render import SIZE, hsv_to_rgb, render
from hybridbooth_core.miniature.world import (
    ACCESSORIES,
    BACKGROUNDS,
    KINDS,
    PATTERNS,
    STYLES,
    Creatures,
    Scenes,
    creatures,
    random_scenes,
    repeat,
    scene,
    split_numbers,
)


def some(count: int = 32, start: int = 0) -> Creatures:
    return creatures(split_numbers("tune", count, start))


def everywhere(count: int, seed: int = 0, **fixed: int) -> Scenes:
    """Random scenes, with the given attributes fixed."""
    scenes = random_scenes(count, torch.Generator().manual_seed(seed))
    return replace(scenes, **{name: torch.full((count,), value) for name, value in fixed.items()})


def with_kind(who: Creatures, kind: str) -> Creatures:
    return replace(who, kind=torch.full_like(who.kind, KINDS.index(kind)))


def test_images_and_masks_have_their_shapes_and_bounds():
    images, masks = render(some(128), everywhere(128))
    assert images.shape == (128, SIZE, SIZE, 3) and masks.shape == (128, SIZE, SIZE)
    for tensor in (images, masks):
        assert tensor.dtype == torch.float32 and tensor.min() >= 0 and tensor.max() <= 1 and bool(torch.isfinite(tensor).all())
    assert bool((masks.amax((1, 2)) > 0.999).all()) and bool((masks.amin((1, 2)) == 0).all())


def test_an_image_depends_on_its_row_alone():
    who, where = some(16), everywhere(16)
    images, masks = render(who, where)
    order = torch.randperm(16)
    turned, turned_masks = render(who[order], where[order])
    torch.testing.assert_close(turned, images[order], atol=1e-6, rtol=0)
    torch.testing.assert_close(turned_masks, masks[order], atol=1e-6, rtol=0)
    torch.testing.assert_close(render(who[3:4], where[3:4])[0], images[3:4], atol=1e-6, rtol=0)


@pytest.mark.parametrize("style", STYLES)
def test_a_creature_changes_nothing_outside_its_mask(style):
    """Two creatures in one scene: equal wherever neither mask reaches (an accessory sits on its creature, so without one)."""
    where = everywhere(64, accessory=0, style=STYLES.index(style))
    (one, one_mask), (other, other_mask) = render(some(64), where), render(some(64, 100), where)
    outside = (one_mask == 0) & (other_mask == 0)
    assert outside.float().mean() > 0.3
    assert torch.equal(one[outside], other[outside])


def test_the_scene_is_hidden_where_the_mask_is_one():
    """The same creature on two backgrounds: equal inside the mask, different where it is 0, mixed at the edge by the mask's share."""
    who = some(64)
    where = everywhere(64, background=BACKGROUNDS.index("snow"), style=0)
    other = replace(where, background=torch.full_like(where.background, BACKGROUNDS.index("space")))
    (one, mask), (two, same_mask) = render(who, where), render(who, other)
    assert torch.equal(mask, same_mask)
    torch.testing.assert_close(one[mask == 1], two[mask == 1], atol=1e-6, rtol=0)
    bare = replace(where, accessory=torch.zeros_like(where.accessory))
    (one, mask), (two, _) = render(who, bare), render(who, replace(other, accessory=bare.accessory))
    assert (one - two)[mask == 0].abs().mean() > 0.2
    edge = (mask > 0.01) & (mask < 0.99)
    far = torch.tensor([0.8, 0.85, 0.85])  # about the difference between snow and space
    share = ((one - two)[edge] / far).mean(-1)
    assert torch.corrcoef(torch.stack([share, 1 - mask[edge]]))[0, 1] > 0.7


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_visible_and_distinct(kind):
    who, where = with_kind(some(16), kind), repeat(scene("snow"), 16)
    images, masks = render(who, where)
    empty = render(who, replace(where, jitter=torch.full((16, 3), 0.0)))[0]
    assert torch.equal(images, empty)
    assert bool((masks.mean((1, 2)) > 0.08).all()) and bool((masks.mean((1, 2)) < 0.6).all())
    for other in set(KINDS) - {kind}:
        different = (render(with_kind(who, other), where)[1] - masks).abs().mean((1, 2))
        assert bool((different > 0.01).all()), other


@pytest.mark.parametrize("name", ["hue", "saturation", "value", "pattern", "frequency", "aspect", "ear", "eye"])
def test_every_attribute_of_an_identity_changes_the_image(name):
    who = replace(some(24), pattern=torch.full((24,), PATTERNS.index("striped")))
    value = getattr(who, name)
    low, width = {"pattern": (0, 6), "saturation": (0.55, 0.4), "value": (0.5, 0.5)}.get(name, (0, 1))
    other = replace(who, **{name: low + (value - low + (1 if name == "pattern" else width / 2)) % width})  # half way round its range
    where = everywhere(24, style=0, accessory=0)
    changed = (render(who, where)[0] - render(other, where)[0]).abs().amax(-1).gt(0.05).float().mean((1, 2))
    assert bool((changed > 0.001).all()), changed.min()


@pytest.mark.parametrize("name", ["background", "place", "size", "accessory", "style", "jitter"])
def test_every_attribute_of_a_scene_changes_the_image(name):
    who, where = some(48), everywhere(48, seed=2)
    count = {"background": 6, "place": 3, "size": 2, "accessory": 3, "style": 4}.get(name)
    value = getattr(where, name)
    other = replace(where, **{name: (value + 1) % count if count else -value})
    assert bool(((render(who, where)[0] - render(who, other)[0]).abs().amax((1, 2, 3)) > 0.05).all())


def test_backgrounds_are_all_different():
    where = replace(everywhere(6, place=1, size=0, accessory=0, style=0), background=torch.arange(6), jitter=torch.zeros(6, 3))
    images, masks = render(creatures(split_numbers("tune", 1).repeat(6)), where)
    outside = (masks == 0).all(0)
    for i in range(6):
        for j in range(i):
            assert (images[i] - images[j])[outside].abs().mean() > 0.05


def test_an_accessory_covers_the_creature_in_image_and_mask():
    who = some(32)
    bare, bare_mask = render(who, everywhere(32, accessory=0, style=0))
    for accessory in ("hat", "crown"):
        image, mask = render(who, everywhere(32, accessory=ACCESSORIES.index(accessory), style=0))
        assert bool((mask <= bare_mask + 1e-6).all()) and bool((mask.sum((1, 2)) < bare_mask.sum((1, 2))).all())
        hidden = (bare_mask == 1) & (mask == 0)
        assert hidden.any() and bool(((image - bare).abs().amax(-1)[hidden] > 0).float().mean() > 0.9)
        assert torch.equal(image[mask == 1], bare[mask == 1])


def test_place_and_size_match_their_words():
    who = some(16)
    centres = torch.arange(SIZE) + 0.5
    across, areas = {}, {}
    for place in ("left", "middle", "right"):
        for size in ("small", "big"):
            mask = render(with_kind(who, "robot"), repeat(scene("snow", place, size), 16))[1]
            across[place, size] = (mask * centres).sum((1, 2)) / mask.sum((1, 2))
            areas[place, size] = mask.mean((1, 2))
    for size in ("small", "big"):
        assert bool((across["left", size] < across["middle", size] - 8).all())
        assert bool((across["middle", size] < across["right", size] - 8).all())
        torch.testing.assert_close(across["middle", size], torch.full((16,), SIZE / 2), atol=0.1, rtol=0)
    assert bool((areas["middle", "small"] * 1.5 < areas["middle", "big"]).all())


def test_a_sketch_has_no_colour_and_the_night_is_dark():
    who = some(16)
    photo = render(who, everywhere(16, style=STYLES.index("photo")))[0]
    sketch = render(who, everywhere(16, style=STYLES.index("sketch")))[0]
    night = render(who, everywhere(16, style=STYLES.index("night")))[0]
    assert torch.equal(sketch[..., 0], sketch[..., 1]) and torch.equal(sketch[..., 1], sketch[..., 2])
    assert (photo.amax(-1) - photo.amin(-1)).mean() > 0.1
    assert bool((night.mean((1, 2, 3)) < 0.62 * photo.mean((1, 2, 3))).all())


def test_patterns_show_both_colours_and_plain_only_one():
    red_and_cyan = torch.tensor([[0.0, 0.5]]).repeat(len(PATTERNS), 1)
    who = replace(with_kind(some(len(PATTERNS), 7), "robot"), pattern=torch.arange(len(PATTERNS)), hue=red_and_cyan)
    images, masks = render(who, repeat(scene("snow"), len(PATTERNS)))
    body = slice(30, 56)  # below the antenna, which has the second colour in every pattern
    cyan = ((images[..., 2] - images[..., 0] > 0.3) & (masks > 0.99))[:, body, 24:40].float().mean((1, 2))
    red = ((images[..., 0] - images[..., 2] > 0.3) & (masks > 0.99))[:, body, 24:40].float().mean((1, 2))
    assert cyan[0] == 0 and bool((cyan[1:] > 0.03).all()) and bool((red > 0.1).all())


def test_batches_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="2 and 3"):
        render(some(3), everywhere(2))


def test_colours_agree_with_colorsys():
    import colorsys

    rows = torch.rand(200, 3)
    expected = torch.tensor([colorsys.hsv_to_rgb(*row) for row in rows.tolist()])
    torch.testing.assert_close(hsv_to_rgb(*rows.T), expected, atol=1e-5, rtol=0)
