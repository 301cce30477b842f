"""Test checkpoints: pictures, metrics, a short table.

python quick_test_epoch.py CHECKPOINT... [--help]
"""

import sys

from bespoke import cli, signals

if __name__ == "__main__":
    signals.handle_signals()
    sys.exit(cli.main(["test", *sys.argv[1:]]))
