"""Ends the servers of a test session with it: `python watchdog.py FOLDER LOCK < PIPE`.

Waits for the end of standard input, a pipe that only the session holds, so that it comes even if
the session is killed; then ends every server whose home is below the folder, and says so by closing
its output. The servers that sessions share have their homes next to LOCK, which each session keeps
locked: they are stopped when nobody holds it.
"""

import fcntl
import os
import sys
from pathlib import Path


def main(folder: str, lock: str) -> None:
    """Wait, then end what is left."""
    sys.stdin.read()
    shared = Path(lock).parent
    end_below(folder, but=str(shared))
    os.close(sys.stdout.fileno())
    with Path(lock).open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        from boothline import services

        for home in filter(Path.is_dir, shared.iterdir()):
            services.stop(home)


def end_below(folder: str, *, but: str) -> None:
    """End each server whose home is below a folder, and not below another."""
    import psutil

    for process in psutil.process_iter():
        try:
            mark = process.environ().get("BOOTHLINE_SERVICE", "")
            if mark.startswith(f"{folder}/") and not mark.startswith(f"{but}/"):
                process.kill()
        except psutil.Error:
            continue


if __name__ == "__main__":
    main(*sys.argv[1:])
