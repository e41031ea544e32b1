"""Word lists for retrieval: nouns of common subjects, and attributes. Retrieval uses only words that are one token of the model.

Our own compilation. Sizes are left out: a crop around a subject does not show its size, and prompts should be able to set it.
"""

from __future__ import annotations

_NOUNS = """
    person man woman boy girl baby child face portrait bride knight soldier wizard witch pirate clown dancer monk king queen
    cat kitten dog puppy horse pony cow bull calf pig sheep goat lamb donkey deer elk moose bear panda wolf fox coyote lion tiger leopard
    cheetah elephant giraffe zebra hippo camel monkey gorilla kangaroo koala rabbit bunny hare squirrel hamster mouse rat otter beaver
    badger raccoon skunk bat seal whale dolphin shark fish salmon trout octopus squid crab lobster shrimp turtle tortoise frog toad lizard
    gecko snake crocodile dragon dinosaur bird parrot owl eagle hawk falcon crow raven pigeon dove sparrow robin swan duck goose chicken
    rooster hen turkey penguin flamingo butterfly moth bee wasp ant spider beetle dragonfly snail
    terrier poodle bulldog pug beagle husky corgi dachshund retriever shepherd spaniel chihuahua
    car truck bus van taxi jeep tractor train tram subway motorcycle bicycle bike skateboard plane airplane jet helicopter drone
    rocket spaceship boat ship yacht canoe kayak submarine
    house cabin cottage castle palace tower church temple mosque lighthouse windmill barn bridge statue fountain tent
    chair sofa couch bench stool table desk bed lamp chandelier candle lantern clock watch mirror vase pot bowl cup mug glass bottle jar
    plate spoon fork knife teapot kettle pan basket box crate bucket barrel suitcase backpack bag purse wallet umbrella
    shoe shoes sneaker sneakers boot boots sandal slipper hat cap helmet crown mask glasses sunglasses scarf glove tie shirt jacket coat
    sweater hoodie dress skirt jeans pants shorts socks suit uniform kimono necklace bracelet ring earrings
    phone laptop keyboard monitor camera radio television speaker headphones microphone console robot toy doll teddy puppet
    figurine sculpture lego balloon ball football basketball baseball racket kite
    guitar violin cello piano drum drums trumpet saxophone flute harp
    book notebook newspaper magazine pen pencil brush scissors hammer wrench saw drill axe sword shield bow arrow gun
    cake cupcake cookie pie bread bagel donut pizza burger sandwich taco sushi noodles soup salad egg cheese steak sausage pancake waffle
    chocolate candy apple orange banana lemon lime pear peach cherry grape strawberry blueberry pineapple mango melon watermelon coconut
    tomato potato carrot onion garlic pepper corn pumpkin mushroom broccoli cucumber coffee tea beer wine juice can
    tree flower rose tulip daisy sunflower lily orchid cactus plant bonsai leaf fern moss bouquet
    mountain volcano island beach waterfall river lake cloud moon planet star rock crystal gem diamond shell feather bone skull
"""

_COLOURS = """
    red orange yellow lime green teal turquoise blue navy purple violet magenta pink maroon brown beige tan cream ivory white grey
    gray silver black gold golden bronze copper coral peach lavender mint olive crimson scarlet amber rainbow colorful pastel neon dark
    pale plain striped banded spotted dotted checked plaid floral camouflage marble patterned half
"""
_MATERIALS = """
    wooden wood metal metallic steel iron brass chrome plastic rubber leather suede cotton wool denim silk velvet lace knitted
    crochet felt plush fur furry fluffy fuzzy hairy woven wicker bamboo straw paper cardboard glass crystal ceramic porcelain
    clay stone granite marble concrete ice wax foam fabric canvas linen satin shiny glossy matte rough smooth rusty
    cracked worn dusty wet
"""
_SHAPES = """
    tall short long wide narrow thin slim thick fat chubby round square rectangular flat curved curly
    straight pointed sharp oval tubular hollow open closed folded stacked winged horned bearded old young baby adult elderly vintage
    antique retro modern new ancient cute fancy elegant simple ornate cartoon realistic sitting standing lying sleeping
    running smiling angry happy sad sleepy tabby siamese persian bengal labrador golden german french english scottish
"""
NOUNS = tuple(_NOUNS.split())
ATTRIBUTES = {kind: tuple(words.split()) for kind, words in {"colour": _COLOURS, "material": _MATERIALS, "shape": _SHAPES}.items()}
