"""`covlab env`: versions, device and threads."""

import os
import sys
from pathlib import Path

import click

from covlab.course.environment import lock_differences, provenance


@click.command()
@click.option("--lock", type=click.Path(path_type=Path), default="requirements.lock", help="The lock to compare with.")
def env(lock: Path) -> None:
    """Show versions, device and threads, and whether they are the tested ones."""
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
    if not lock.exists():
        click.echo(f"lock     {lock} does not exist; run this in a clone of covlab to compare versions")
    elif differences := lock_differences(lock):
        click.echo(f"lock     {len(differences)} versions differ from the tested ones:")
        click.echo("\n".join(f"         {line}" for line in differences))
    else:
        click.echo("lock     every version is the tested one")
