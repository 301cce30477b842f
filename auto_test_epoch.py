"""Test, score, record and commit checkpoints.

python auto_test_epoch.py CHECKPOINT... [--help]
"""

import sys

from bespoke.cli import auto_test_main

if __name__ == "__main__":
    sys.exit(auto_test_main())
