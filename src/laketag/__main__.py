"""`python -m laketag` is the program `laketag`."""

from laketag.cli.app import main

if __name__ == "__main__":
    main()
