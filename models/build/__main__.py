"""Trains, evaluates and exports the tiny base: `python -m models.build`."""

from models.build.cli import main

if __name__ == "__main__":
    main()
