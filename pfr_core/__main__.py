"""``python -m pfr_core``: the same as the ``pfr`` command."""

import sys

from .cli import main

sys.exit(main())
