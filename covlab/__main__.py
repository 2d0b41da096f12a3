"""`python -m covlab`: the same as the command `covlab`."""

from covlab.cli import main

main()
