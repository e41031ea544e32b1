"""`python -m hybridbooth_core` is the command `hybridbooth`."""

import sys

from .cli import main

sys.exit(main())
