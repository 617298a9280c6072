"""Becomes another program that is killed when its parent dies. Run as a file: ``python tether.py PARENT PROGRAM [ARGUMENT …]``.

A process that uses gRPC cannot run code of its own between fork and exec, so this stands in between.
"""

import ctypes
import os
import signal
import sys

#: prctl(2): the signal a process gets when the thread that made it ends. It stays over exec.
PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    """Does not return."""
    parent, program = int(arguments[0]), arguments[1]
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    # The parent may have died before the call.
    if os.getppid() != parent:
        sys.exit(1)
    os.execv(program, arguments[1:])  # noqa: S606


if __name__ == "__main__":
    main(sys.argv[1:])
