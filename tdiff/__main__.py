"""`python -m tdiff`."""

from tdiff.cli import main

if __name__ == "__main__":
    main()
