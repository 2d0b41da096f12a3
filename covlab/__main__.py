"""`python -m covlab`: the same as the command `covlab`."""

from covlab.cli.main import main

main()
