"""`failshut monitor`: what failshut-monitor.service runs. It stays in the foreground."""

from __future__ import annotations

from typing import Any

import click

from failshut.arming.errors import NOT_BY_IPTABLES, USE_NFTABLES
from failshut.cli.session import Failure, begin, session_options
from failshut.model.backend import BackendName
from failshut.model.exits import Exit
from failshut.monitor.pace import CALM


@click.command("monitor")
@click.option("--every", type=click.FloatRange(min=0.5), default=CALM, metavar="SECONDS", help=f"Between two looks [{CALM:g}].")
@session_options
@click.pass_context
def command(context: click.Context, /, every: float, **options: Any) -> None:
    """Watch over an armed lock until it is stopped; failshut-monitor.service runs this.

    What another program changes in the lock is put back and recorded with who did it; a device that comes later gets the layer
    under IP; the tunnels' health, and what is refused for the first time, is watched and said; Prometheus' numbers are served where
    the policy says so ([metrics]). The lock depends on none of it.
    """
    import asyncio

    from failshut.arming.armed.status import read_status
    from failshut.monitor.service import AlreadyRunsError, Monitor

    begin(context, options)
    record = read_status().record
    if record is not None and record.backend == BackendName.IPTABLES:
        # It has no table of its own to hold open, and no set to read: it would say that there is no lock.
        raise Failure(NOT_BY_IPTABLES, help=USE_NFTABLES)
    try:
        asyncio.run(Monitor(every=every).run())
    except AlreadyRunsError as error:
        raise Failure("another monitor runs already", help="`systemctl status failshut-monitor`") from error
    except PermissionError as error:
        raise Failure("the kernel tells nobody but root of its rules", help="run it with sudo", exit_code=Exit.UNKNOWN) from error
