"""``python -m tests.pipelines.batch.killer BASE WORK STRIDE``: kills ``compact`` before every STRIDE-th change it makes to files.

For each moment a copy of the archive BASE is compacted by a child that kills itself there, then by one that does not, and the
content is printed, a line each: the moment, how the first child ended, and the digest of the events.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from pipelines.batch import compact as job
from pipelines.batch import compacting, running
from tests.pipelines.batch.recorded import stored

#: Imported before the children are made.
_READY = (compacting, running)
#: What Python reports before it does it (sys.addaudithook); the exchange of two directories is looked up each time.
CHANGES = ("os.rename", "os.mkdir", "os.remove", "os.rmdir", "shutil.rmtree", "ctypes.dlsym")


def compact(root: Path, kill_at: int) -> int:
    """Compact in a child, which kills itself before change number ``kill_at``. Returns the child's wait status."""

    def work() -> None:
        left = kill_at

        def hook(event: str, arguments: tuple[object, ...]) -> None:
            nonlocal left
            written = event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wxa+")
            if written or event in CHANGES:
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        if kill_at:
            sys.addaudithook(hook)
        os._exit(job.main(["--archive", str(root), "--progress", "never"]))

    return _child(work)


def digest(root: Path) -> str:
    """Of all events, whatever files they are in."""
    rows = sorted(repr(sorted(row.items())) for row in stored(root))
    return f"{len(rows)}-{hashlib.sha256(chr(10).join(rows).encode()).hexdigest()[:16]}"


def _child(work: Callable[[], None]) -> int:
    process = os.fork()
    if process == 0:
        try:
            work()
        finally:
            os._exit(99)
    return os.waitpid(process, 0)[1]


def main(base: Path, work: Path, stride: int) -> None:
    """Go on until a child comes to its end alive."""
    moment = 1
    while True:
        root = work / "copy"
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(base, root)
        ended = compact(root, moment)
        between = digest(root)
        again = compact(root, 0)
        print(f"moment {moment} {ended} {between} {again} {digest(root)}", flush=True)
        if ended == 0:
            return
        moment += stride


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
