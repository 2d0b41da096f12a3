"""`covlab env`: versions, device and threads."""

import os
import sys
from pathlib import Path

import click

from covlab.cli.options import ExistingPath
from covlab.course.environment import lock_differences, provenance


@click.command()
@click.option(
    "--lock", type=ExistingPath(dir_okay=False), help="The lock to compare with. [default: requirements.lock]"
)
def env(lock: Path | None) -> None:
    """Show versions, device and threads, and whether they are the tested ones."""
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
    if differences is None:
        click.echo(f"lock     {lock} does not exist; run this in a clone of covlab to compare versions")
    elif differences:
        click.echo(f"lock     {len(differences)} versions differ from the tested ones:")
        click.echo("\n".join(f"         {line}" for line in differences))
    else:
        click.echo("lock     every version is the tested one")
