"""The command `covlab`: one file per subcommand, imported only when that subcommand runs."""
