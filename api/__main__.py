"""`python -m slideloom` is the `slideloom` command."""

from slideloom.workflows.cli import main

if __name__ == "__main__":
    main()
