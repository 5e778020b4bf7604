"""`failshut metrics`: numbers for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import click

from failshut.arming.status import read_status
from failshut.cli.session import Failure, begin, session_options
from failshut.host.files import write_atomically
from failshut.host.runs import last_runs
from failshut.host.wireguard import running_tunnels
from failshut.metrics.samples import Beside, Sample, samples
from failshut.server.peers import friendly_names, is_up

_SHAPE = "an address and a port are wanted: 127.0.0.1:9586, [::1]:9586"


@click.command("metrics")
@click.option("--textfile", type=click.Path(dir_okay=False), metavar="FILE", help="Write them there: a name that ends in .prom.")
@click.option("--listen", metavar="ADDRESS:PORT", help="Serve them over HTTP until Ctrl-C: 127.0.0.1:9586.")
@click.option("--user", metavar="NAME", default="failshut", show_default=True, help="With --listen: who may ask.")
@click.option(
    "--password-file", type=click.Path(dir_okay=False), metavar="FILE", help="With --listen: its first line is asked for."
)
@click.option("--certificate", type=click.Path(dir_okay=False), metavar="FILE", help="With --listen: TLS, with this PEM chain.")
@click.option("--key", type=click.Path(dir_okay=False), metavar="FILE", help="The certificate's key, where it is apart.")
@session_options
@click.pass_context
def command(context: click.Context, /, textfile: str | None, listen: str | None, **options: Any) -> None:
    """Print the lock's state, the tunnels and what was refused in Prometheus' text format.

    --textfile is for node_exporter's textfile collector, from a timer; --listen is an exporter of its own. Beyond loopback it
    must be given a password or a certificate: what a machine refuses says how much its programs wanted to send.
    """
    protected = {name: options.pop(name) for name in ("user", "password_file", "certificate", "key")}
    session = begin(context, options)
    if session.json:
        session.print_json([{"name": each.metric.name, "labels": _labels(each), "value": float(each.value)} for each in _read()])
    elif listen:
        _serve(listen, protected)
    else:
        _write(textfile)


def _read() -> Iterator[Sample]:
    tunnels = running_tunnels()
    yield from samples(read_status(), last_runs(), Beside(tunnels, friendly_names(), is_up(tunnels)))


def _labels(sample: Sample) -> dict[str, str]:
    return dict(zip(sample.metric.labels, sample.labels, strict=True))


def _write(textfile: str | None) -> None:
    from failshut.metrics.export import as_text  # noqa: PLC0415 - the library takes a tenth of a second

    text = as_text(_read)
    if textfile is None:
        click.echo(text, nl=False)
        return
    try:
        write_atomically(Path(textfile), text)
    except OSError as error:
        raise Failure(f"{textfile} can't be written: {error.strerror}") from error


def _serve(listen: str, protected: dict[str, Any]) -> None:
    from failshut.metrics.export import Protection, serve  # noqa: PLC0415 - as above

    host, port = _place(listen)
    try:
        password = Path(protected["password_file"]).read_text(encoding="utf-8").split("\n")[0] if protected["password_file"] else ""
    except OSError as error:
        raise Failure(f"{protected['password_file']} can't be read: {error.strerror}") from error
    files = {name: Path(protected[name]) if protected[name] else None for name in ("certificate", "key")}
    if protected["password_file"] and not password:
        raise click.UsageError(f"{protected['password_file']}: the first line is empty")
    if not ip_address(host).is_loopback and not (password or files["certificate"]):
        raise click.UsageError(f"{host} is not loopback: --password-file or --certificate must protect it")
    try:
        server = serve(_read, host, port, Protection(protected["user"], password, **files))
    except OSError as error:
        raise Failure(f"{listen} can't be served: {error.strerror or error}", help="does another exporter listen there?") from error
    click.echo(
        f"Serving on {'https' if files['certificate'] else 'http'}://{listen.rpartition(':')[0]}:{server.server_port}/metrics"
    )
    with server, suppress(KeyboardInterrupt):
        server.serve_forever()


def _place(listen: str) -> tuple[str, int]:
    host, colon, port = listen.rpartition(":")
    try:
        address = ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError as error:
        raise click.UsageError(f"--listen {listen}: {_SHAPE}") from error
    if not colon or not port.isdigit() or int(port) > 65535:
        raise click.UsageError(f"--listen {listen}: {_SHAPE}")
    return str(address), int(port)
