"""``python -m gammatorch``, and the command itself: an interrupt during imports shows no traceback either."""

import os


def main() -> None:
    """Run the command line and exit."""
    try:
        from gammatorch.cli import main as run
    except KeyboardInterrupt:
        os.write(2, b"gammatorch: interrupted\n")
        os._exit(130)
    run()


if __name__ == "__main__":
    main()
