"""The command `covlab`: one file per subcommand, imported only when that subcommand runs."""

# name -> (location of its click command, the extra that installs what it needs, line that `covlab --help` shows)
COMMANDS = {
    "bench": ("covlab.cli.bench:bench", "workbench", "Run a benchmark; needs a clone of the repository."),
    "course": ("covlab.cli.course:course", "course", "Run, check and open the lessons."),
    "train": ("covlab.cli.train:train", "workbench", "Train a network, or resume a run."),
    "tune": (
        "covlab.cli.tune:tune",
        "tune",
        "Tune loss weights, learning rate and width, on any number of machines.",
    ),
    "demo": ("covlab.cli.demo:demo", "workbench", "For a class: a correct and a buggy run, live, side by side."),
    "faults": (
        "covlab.cli.faults:faults",
        "workbench",
        "The museum: bugs that raise no exception, and how to detect them.",
    ),
    "watch": ("covlab.cli.main:watch", "", "Watch a training script: which invariants it breaks, and where."),
    "env": ("covlab.cli.env:env", "workbench", "Show versions, device and threads."),
}
