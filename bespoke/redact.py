"""Tokens, keys and passwords of the environment never reach anything that is written or shown."""

from __future__ import annotations

import functools
import os
import re

SECRET_NAME = re.compile(
    r"TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|API_?KEY|_KEY$|DATABASE_URL|NOTIFY"
)
# In what fsspec reads as JSON from the environment, FSSPEC_S3='{"key": …, "secret": …}'.
IN_JSON = re.compile(r'"\w*(?:key|secret|token|password)"\s*:\s*"([^"]+)"', re.IGNORECASE)
# A password within an address, whatever variable or file it came from.
IN_ADDRESS = re.compile(r"(?<=://)([^/\s:@]*):([^@\s/]+)@")
# Shorter values are words such as "true", which stand in every text.
SHORTEST = 8


@functools.cache
def _secrets() -> re.Pattern[str]:
    named = [words for name, words in os.environ.items() if SECRET_NAME.search(name.upper())]
    named += [each for words in named for each in words.split(",")]
    fsspec = [words for name, words in os.environ.items() if name.startswith("FSSPEC_")]
    named += [secret for words in fsspec for secret in IN_JSON.findall(words)]
    values = {value for value in named if len(value) >= SHORTEST}
    # The longest first: one secret may hold another. Without any, a pattern that never matches.
    return re.compile("|".join(map(re.escape, sorted(values, key=len, reverse=True))) or r"(?!)")


def holds_secret(text: str) -> bool:
    """Whether `text` holds a secret of the environment."""
    return _secrets().search(text) is not None


def veiled(text: str) -> str:
    """`text` with every secret of the environment, and every password in an address, as `***`."""
    return IN_ADDRESS.sub(r"\1:***@", _secrets().sub("***", text))
