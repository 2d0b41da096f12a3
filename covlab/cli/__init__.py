"""The command `covlab`: a file for each of its commands, imported only when it is called."""
