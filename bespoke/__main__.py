"""`python -m bespoke VERB`."""

import sys

from bespoke.cli import main

sys.exit(main())
