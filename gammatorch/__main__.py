"""``python -m gammatorch``."""

from gammatorch.cli import main

main()
