"""``python -m web``."""

import sys

from .cli import main

sys.exit(main())
