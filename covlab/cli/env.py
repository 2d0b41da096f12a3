"""`covlab env`: versions, device and threads; `covlab env --gpu`: what was never run on CUDA."""

import os
import sys
import time
from pathlib import Path

import click

from covlab.cli.options import ExistingPath
from covlab.course.environment import TRIED, lock_differences, newer_than_tested, provenance


@click.command()
@click.option(
    "--lock", type=ExistingPath(dir_okay=False), help="The lock to compare with. [default: requirements.lock]"
)
@click.option("--gpu", is_flag=True, help="Try on this machine's GPU what was never run on one; takes minutes.")
def env(lock: Path | None, gpu: bool) -> None:
    """Show versions, device and threads, and whether they are the tested ones."""
    if gpu:
        _try_gpu()
        return
    lock = lock or Path("requirements.lock")
    try:
        differences = lock_differences(lock)
    except FileNotFoundError:
        differences = None
    except (ValueError, OSError) as error:
        raise click.BadParameter(
            f"must be a file with lines such as numpy==2.4.6, got {lock} ({error})", param_hint="'--lock'"
        ) from error
    found = provenance()
    click.echo(f"Python   {found['python']}  ({sys.executable})")
    click.echo(f"platform {found['platform']}, {found['cores']} cores")
    for name, number in found["versions"].items():
        click.echo(f"{name:<12} {number}")
    click.echo(f"device   {found['device']}" + (f", CUDA {found['cuda']}" if found["cuda"] else ""))
    click.echo(
        f"threads  {found['threads']} in torch, OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'unset')}, "
        f"OMP_WAIT_POLICY={found['omp_wait_policy']}"
    )
    if found["policy_late"]:
        click.echo("         torch was imported before covlab, so the wait policy has no effect: import covlab first")
    for versions, what in TRIED:
        click.echo(f"tested   {versions}: {what}")
    for line in newer_than_tested(None if differences is None else lock):
        click.echo(f"newer    {line}")
    if differences is None:
        click.echo(f"lock     {lock} does not exist; run this in a clone of covlab to compare versions")
    elif differences:
        click.echo(f"lock     {len(differences)} versions differ from the tested ones:")
        click.echo("\n".join(f"         {line}" for line in differences))
    else:
        click.echo("lock     every version is the tested one")


def _try_gpu() -> None:
    """Print a line for each check of docs/gpu.md. Exit with status 1 if one fails, or without a GPU."""
    import torch

    if not torch.cuda.is_available():
        click.echo(f"PyTorch sees no GPU here (torch {torch.__version__}), so nothing was tried.")
        sys.exit(1)
    from covlab.cli.gpu_checks import CHECKS, reason_for_failure

    click.echo(f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}, torch {torch.__version__}")
    failures = 0
    for check in CHECKS:
        began = time.monotonic()
        reason = reason_for_failure(check, "cuda")
        failures += bool(reason)
        click.echo(f"{'FAIL' if reason else 'pass'} {time.monotonic() - began:5.1f} s  {check.what}")
        if reason:
            click.echo(f"              {reason}")
    click.echo(f"{len(CHECKS) - failures} of {len(CHECKS)} hold on this GPU")
    sys.exit(failures > 0)
