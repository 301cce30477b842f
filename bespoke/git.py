"""One folder into the person's git history, and nothing else of theirs touched."""

from __future__ import annotations

import os
from pathlib import Path

from bespoke.processes import StartError, outcome

# What git leaves in its folder while something is under way.
_BUSY = {
    "MERGE_HEAD": "a merge",
    "rebase-merge": "a rebase",
    "rebase-apply": "a rebase",
    "CHERRY_PICK_HEAD": "a cherry-pick",
    "REVERT_HEAD": "a revert",
    "BISECT_LOG": "a bisection",
    "index.lock": "another git command",
}


def commit(folder: Path, message: str) -> str:
    """Commit what lies in `folder`; what else is staged stays staged. Nothing is ever pushed.

    Returns what came of it, for a person: a repository that is not in a state for it is left as it
    was, and is no error.
    """
    try:
        return _hindrance(folder) or _committed(folder, message)
    except StartError as error:
        return f"not committed: {error}"


def top(folder: Path) -> Path | None:
    """The top folder of the repository that holds `folder`, or None."""
    try:
        code, said = _git(folder, "rev-parse", "--show-toplevel")
    except StartError:
        return None
    return Path(said) if code == 0 and said else None


def _git(folder: Path, *arguments: str) -> tuple[int, str]:
    # Within a git hook these name another repository or index.
    environment = {
        key: value
        for key, value in os.environ.items()
        if key not in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX")
    }
    return outcome(["git", *arguments], cwd=folder, environment=environment)


def _hindrance(folder: Path) -> str | None:
    if top(folder) is None:
        return f"not committed: no git repository holds {folder}"
    for name, what in _BUSY.items():
        if (folder / _git(folder, "rev-parse", "--git-path", name)[1]).exists():
            return f"not committed: {what} is under way in the repository; finish it first"
    if _git(folder, "symbolic-ref", "-q", "HEAD")[0] != 0:
        return "not committed: HEAD is detached, and the commit would be lost; check out a branch"
    if _git(folder, "check-ignore", "-q", ".")[0] == 0:
        return f"not committed: .gitignore leaves {folder.name} out"
    if not _git(folder, "status", "--porcelain", "--", ".")[1]:
        return "committed already: nothing in it has changed"
    return None


def _committed(folder: Path, message: str) -> str:
    code, said = _git(folder, "add", "--", ".")
    if code == 0:
        code, said = _git(folder, "commit", "--quiet", "--only", "-m", message, "--", ".")
    if code != 0:
        # On a branch without commits there is nothing to reset to.
        if _git(folder, "reset", "--quiet", "--", ".")[0] != 0:
            _git(folder, "rm", "-r", "--quiet", "--cached", "--ignore-unmatch", "--", ".")
        return f"not committed: git says: {said.splitlines()[-1] if said else f'exit code {code}'}"
    ignored = _git(folder, "ls-files", "--others", "--ignored", "--exclude-standard", "--", ".")[1]
    left = f", without {len(ignored.splitlines())} files that .gitignore leaves out"
    return (
        f"committed as {_git(folder, 'rev-parse', '--short', 'HEAD')[1]}{left if ignored else ''}"
    )
