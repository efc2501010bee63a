"""Ends the servers of a test session with it: `python watchdog.py FOLDER < PIPE`.

Waits for the end of standard input, a pipe that only the session holds, so that it comes even if
the session is killed; then ends every server whose home is below the folder.
"""

import sys


def main(folder: str) -> None:
    """Wait, then end what is left."""
    sys.stdin.read()
    import psutil

    for process in psutil.process_iter():
        try:
            mark = process.environ().get("BOOTHLINE_SERVICE", "")
            if mark.startswith(f"{folder}/"):
                process.kill()
        except psutil.Error:
            continue


if __name__ == "__main__":
    main(sys.argv[1])
