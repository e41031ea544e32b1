"""`python -m hybridbooth_core.training`, and `accelerate launch -m hybridbooth_core.training`, are `hybridbooth train-probe`."""

import sys

from ..cli import main

sys.exit(main(["train-probe", *sys.argv[1:]]))
