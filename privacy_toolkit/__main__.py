"""``python -m privacy_toolkit``."""

from privacy_toolkit.cli.main import main

if __name__ == "__main__":
    main()
