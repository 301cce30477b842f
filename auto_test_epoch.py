"""Test, score, record and commit checkpoints.

python auto_test_epoch.py CHECKPOINT... [--help]
"""

import sys

from bespoke import cli, signals

if __name__ == "__main__":
    signals.handle_signals()
    sys.exit(cli.main(["test", "--score", *sys.argv[1:]]))
