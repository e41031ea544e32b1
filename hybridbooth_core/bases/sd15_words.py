"""What Stable Diffusion 1.5 is asked to draw for a training set of a probe: things that users personalise, and scenes."""

from __future__ import annotations

from itertools import product

from ..data.vocabulary import Nouns, Vocabulary

AGES = ("young", "middle-aged", "old")
HAIR = ("blond", "black-haired", "red-haired", "grey-haired", "brown-haired", "curly-haired", "long-haired", "short-haired", "bald")
PEOPLE = (
    "man", "woman", "boy", "girl", "person", "doctor", "farmer", "dancer", "soldier", "chef", "student", "teacher", "sailor", "athlete",
    "musician", "king", "queen", "knight", "wizard", "pirate",
)  # fmt: skip
LOOKS = ("smiling", "freckled", "bearded", "thin", "chubby", "muscular", "pale", "tanned", "dark-skinned", "asian", "african", "indian")
DOGS = (
    "labrador", "poodle", "beagle", "corgi", "dachshund", "pug", "husky", "terrier", "bulldog", "dalmatian", "collie", "chihuahua", "dog",
    "puppy",
)  # fmt: skip
CATS = ("cat", "kitten", "tabby cat", "siamese cat", "persian cat")
ANIMALS = (
    "horse", "cow", "pig", "sheep", "goat", "rabbit", "hamster", "parrot", "owl", "chicken", "duck", "penguin", "turtle", "frog", "lizard",
    "fish", "fox", "wolf", "bear", "tiger", "lion", "elephant", "monkey", "deer", "squirrel", "hedgehog",
)  # fmt: skip
COATS = ("white", "black", "brown", "grey", "golden", "cream", "spotted", "striped", "reddish", "blue-grey")
FUR = ("fluffy", "short-haired", "shaggy", "curly", "sleek", "small", "large", "old")
THINGS = (
    "backpack", "teapot", "mug", "vase", "clock", "lamp", "chair", "stuffed animal", "toy robot", "toy car", "doll", "sneaker", "boot",
    "hat", "handbag", "guitar", "camera", "bottle", "candle", "bowl", "umbrella", "suitcase", "statue", "teddy bear", "action figure",
    "watering can", "motorcycle", "bicycle", "car", "truck", "boat", "house", "cake", "rubber duck", "sunglasses", "jacket",
)  # fmt: skip
COLOURS = ("red", "orange", "yellow", "green", "teal", "blue", "purple", "pink", "brown", "black", "white", "grey", "golden", "silver")
MATERIALS = ("wooden", "metal", "glass", "ceramic", "plastic", "leather", "knitted", "stone", "paper", "velvet", "rusty", "shiny")
PATTERNS = ("striped", "checkered", "spotted", "floral", "plain", "patterned", "vintage", "modern", "worn")

BEFORE = ("a photo of a", "a close-up photo of a", "a studio photo of a")
AFTER = (
    "", "on a beach", "in a forest", "in the snow", "on a city street", "in a living room", "on a wooden table", "on grass", "in a kitchen",
    "in front of a brick wall", "on a white background", "at sunset", "in a garden", "on a road", "in a desert", "at night", "in the rain",
    "on a sofa", "in front of mountains", "in a park", "on a carpet", "by a window", "in a field of flowers", "in front of a blue wall",
)  # fmt: skip


def vocabulary() -> Vocabulary:
    """People, animals and things with ages, looks, colours, patterns and materials, in photographs."""
    groups = (
        Nouns(PEOPLE, (AGES, LOOKS, HAIR)),
        Nouns((*DOGS, *CATS), (FUR, COATS)),
        Nouns(ANIMALS, (FUR, COATS)),
        Nouns(THINGS, (PATTERNS, COLOURS, MATERIALS)),
    )
    return Vocabulary(groups, tuple(product(BEFORE, AFTER)))
