"""Test checkpoints: pictures, metrics, a short table.

python quick_test_epoch.py CHECKPOINT... [--help]
"""

import sys

from bespoke.cli import quick_test_main

if __name__ == "__main__":
    sys.exit(quick_test_main())
