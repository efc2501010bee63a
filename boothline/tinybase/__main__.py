"""Trains, evaluates and exports the tiny base: `python -m boothline.tinybase`."""

from boothline.tinybase.cli import main

if __name__ == "__main__":
    main()
