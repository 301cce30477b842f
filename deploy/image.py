"""The Dockerfile's own step: hold the trainer to bespoke's table of it, and note both commits."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from bespoke import version  # noqa: E402 - run as a file, in the image
from tools import options_scan  # noqa: E402


def main(bespoke: str, trainer: str) -> None:
    table = json.loads((REPOSITORY / "bespoke/experiment/trainer_options.json").read_bytes())
    found = json.loads(options_scan.as_text(options_scan.scan(REPOSITORY / "vendor/sd-scripts")))
    made_for = table.pop("commit")
    del found["commit"]
    if found != table or trainer not in ("unknown", made_for):
        sys.exit(f"vendor/sd-scripts: bespoke is made for {made_for}, and this is another trainer")
    for name, commit in (("BESPOKE_COMMIT", bespoke), ("TRAINER_COMMIT", trainer)):
        if commit != "unknown" and not re.fullmatch(r"[0-9a-f]{40}(-dirty)?", commit):
            sys.exit(f"{name}: {commit!r}: 40 hexadecimal digits are needed")
    commits = {"bespoke": bespoke, "trainer": made_for}
    (REPOSITORY / version.FILE).write_text(json.dumps(commits) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
