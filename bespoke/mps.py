"""CUDA MPS for runs that share a GPU: a daemon of their own, gone with them.

Without it each process has slices of the GPU's time in turn, gaps included (docs/performance.md).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
from dataclasses import replace
from typing import TYPE_CHECKING

from bespoke.display import say
from bespoke.places import VISIBLE
from bespoke.processes import Group, StartError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from bespoke.places import Place

PROGRAM = "nvidia-cuda-mps-control"
PIPE, LOG = "CUDA_MPS_PIPE_DIRECTORY", "CUDA_MPS_LOG_DIRECTORY"
# Told to quit, it waits for its clients; those of runs that are killed end within 15 s.
QUIT_S = 20
# The daemon leaves the group that it is started in: this shell stays there, and ends it. Its sleep
# is killed outright: told to end before it has become sleep, the child forgets it.
SERVE = f"""
end() {{
    kill -9 "$!"
    echo quit | timeout "$left" {PROGRAM} || kill -9 "$(cat "${PIPE}/{PROGRAM}.pid")"
    rm -rf -- "${PIPE}"; exit
}} >/dev/null 2>&1
failed() {{ echo "$1 (exit code $?)"; end; }}
left=2; trap end TERM
timeout 5 {PROGRAM} -d || failed "it does not start"
left={QUIT_S}
for {VISIBLE} do timeout 20 "$0" -c "$TRIAL" || failed "${VISIBLE} cannot be used"; done
echo up; while :; do sleep 60 & wait; done
"""
# A daemon that runs may yet refuse a process the GPU: what each run does first is tried once.
TRIAL = """
import ctypes, sys
cuda = ctypes.CDLL("libcuda.so.1")
code = cuda.cuInit(0) or cuda.cuDevicePrimaryCtxRetain(ctypes.byref(ctypes.c_void_p()), 0)
sys.exit(code and f"CUDA error {code}")
"""


def at_hand() -> bool:
    """Whether runs that share a GPU can be expected to reach it through a daemon."""
    return PIPE in os.environ or (_wanted() and shutil.which(PROGRAM) is not None)


def _wanted() -> bool:
    return os.environ.get("BESPOKE_MPS") != "0"


@contextlib.contextmanager
def through(
    chosen: Sequence[Place], shared: Mapping[str, str], logs: Path
) -> Iterator[Sequence[Place]]:
    """The same places, those on `shared` GPUs (UUIDs by number) by way of a daemon if one serves.

    BESPOKE_MPS=0 leaves it out, and a CUDA_MPS_PIPE_DIRECTORY that is set already is left as it is.
    """
    with contextlib.ExitStack() as stack:
        if shared and _wanted() and PIPE not in os.environ:
            try:
                variables = _served(tuple(shared.values()), logs, stack)
                say(f"GPU {', '.join(shared)}: shared through CUDA MPS")
                # By UUID on both sides: the daemon numbers the GPUs that it sees anew.
                chosen = [
                    replace(each, variables={**each.variables, **variables, VISIBLE: shared[gpu]})
                    if (gpu := str(each.gpu)) in shared
                    else each
                    for each in chosen
                ]
            except StartError as error:
                stack.close()
                say(f"CUDA MPS: {error}: the runs share a GPU without it, more slowly")
        yield chosen


def _served(uuids: Sequence[str], logs: Path, stack: contextlib.ExitStack) -> dict[str, str]:
    """What a process needs to find the daemon, once that serves each of these GPUs."""
    if shutil.which(PROGRAM) is None:
        raise StartError(f"there is no {PROGRAM} on the PATH")
    logs.mkdir()
    # Not in the run's folder: a socket's path may have 107 characters.
    folder = tempfile.TemporaryDirectory(prefix="mps", dir="/tmp", ignore_cleanup_errors=True)
    variables = {PIPE: stack.enter_context(folder), LOG: str(logs)}
    environment = {**os.environ, **variables, VISIBLE: ",".join(uuids), "TRIAL": TRIAL}
    shell = ("/bin/sh", "-c", SERVE, sys.executable, *uuids)
    group = Group(shell, environment=environment, cwd=logs, patience=QUIT_S + 5)
    stack.enter_context(group)
    told = b""
    for chunk in group.output():
        told += chunk
        if told.endswith(b"up\n"):
            return variables
    raise StartError(": ".join([PROGRAM, *told.decode(errors="replace").splitlines()[-2:]]))
