"""A training loop with bugs, which `covlab watch --demo` runs as if you had written it."""
