"""`python -m bespoke VERB`."""

import sys

from bespoke import signals

if __name__ == "__main__":
    # A signal may come before all that the command line needs is imported.
    resumes = "run" in sys.argv[1:2]
    signals.handle_signals(": run the same command again to resume" if resumes else "")

from bespoke.cli import main

sys.exit(main())
