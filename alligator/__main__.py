"""Let ``python -m alligator`` be ``latergator``."""

from .cli import main

if __name__ == "__main__":
    main()
