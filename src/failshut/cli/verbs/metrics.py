"""`failshut metrics`: numbers for Prometheus."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from failshut.cli.session import Failure, begin, session_options
from failshut.config.mistake import Mistake

if TYPE_CHECKING:
    from failshut.metrics.samples import Sample


@click.command("metrics")
@click.option("--textfile", type=click.Path(dir_okay=False), metavar="FILE", help="Write them there: a name that ends in .prom.")
@click.option("--listen", "where", metavar="PLACE", help="Serve them over HTTP until Ctrl-C: 127.0.0.1:9586, unix:/PATH.")
@click.option("--user", metavar="NAME", default="failshut", show_default=True, help="With --listen: who may ask.")
@click.option(
    "--password-file", type=click.Path(dir_okay=False), metavar="FILE", help="With --listen: its first line is asked for."
)
@click.option("--certificate", type=click.Path(dir_okay=False), metavar="FILE", help="With --listen: TLS, with this PEM chain.")
@click.option("--key", type=click.Path(dir_okay=False), metavar="FILE", help="The certificate's key, where it is apart.")
@session_options
@click.pass_context
def command(context: click.Context, /, textfile: str | None, where: str | None, **options: Any) -> None:
    """Print the lock's state, the tunnels and what was refused in Prometheus' text format.

    --textfile is for node_exporter's textfile collector, from a timer; --listen is an exporter of its own. Beyond loopback it
    must be given a password or a certificate: what a machine refuses says how much its programs wanted to send. The monitor does
    both by itself, as [metrics] in the policy says.
    """
    from failshut.metrics.reading import read_samples

    protected = {name: options.pop(name) for name in ("user", "password_file", "certificate", "key")}
    session = begin(context, options)
    if session.json:
        session.print_json([_as_json(each) for each in read_samples()])
    elif where:
        _serve(where, protected)
    else:
        _write(textfile)


def _as_json(sample: Sample) -> dict[str, Any]:
    labels = dict(zip(sample.metric.labels, sample.labels, strict=True))
    return {"name": sample.metric.name, "labels": labels, "value": float(sample.value)}


def _write(textfile: str | None) -> None:
    from failshut.host.files import write_atomically
    from failshut.metrics.export import as_text
    from failshut.metrics.reading import read_samples

    text = as_text(read_samples)
    if textfile is None:
        click.echo(text, nl=False)
        return
    try:
        write_atomically(Path(textfile), text)
    except OSError as error:
        raise Failure(f"{textfile} can't be written: {error.strerror}") from error


def _serve(where: str, protected: dict[str, Any]) -> None:
    from failshut.config.listening import listen
    from failshut.metrics.export import Server, protection
    from failshut.metrics.reading import read_samples
    from failshut.model.policy import Metrics

    try:
        place = listen(where)
    except Mistake as mistake:
        raise click.UsageError(f"--listen: {mistake.message}; {mistake.help}") from mistake
    settings = Metrics((place,), **protected)
    if not place.is_local and not (settings.password_file or settings.certificate):
        raise click.UsageError(f"{place.address} is not loopback: --password-file or --certificate must protect it")
    try:
        asked = protection(settings)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    except OSError as error:
        raise Failure(f"{settings.password_file} can't be read: {error.strerror}") from error
    try:
        server = Server(place, read_samples, asked)
    except OSError as error:
        raise Failure(f"{place} can't be served: {error.strerror or error}", help="does another exporter listen there?") from error
    scheme = "https" if settings.certificate else "http"
    shown = replace(place, port=server.server_port) if place.address else place
    click.echo(f"Serving on {scheme}://{shown}/metrics" if place.address else f"Serving on {shown}")
    with server, suppress(KeyboardInterrupt):
        server.serve_forever()
