"""`bench`: what one bootstrap costs on this machine, and whether that is within design 9."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from server import logs, rig
from server.bench import figures, floor, run
from server.bench.figures import Mode
from server.bench.report import Machine, renewed
from server.bench.run import Bench, Result
from server.cli import options
from server.rig import RigFailed


def bench(
    mode: Annotated[Mode, typer.Option(help="Credential of the devices.")] = "x509",
    devices: Annotated[int, typer.Option(min=1, max=5000, help="Number of devices at a time.")] = 100,
    seconds: Annotated[float, typer.Option(min=0.5, help="Seconds to measure, after 2 s of warm-up.")] = 10,
    workers: Annotated[
        int,
        typer.Option(
            min=1, max=64, help="CoAP workers; with more than one, a server with one worker is measured by turns."
        ),
    ] = 1,
    storm: Annotated[
        int | None,
        typer.Option(min=1, max=50_000, help="Instead: start so many devices at once, and wait until each is done."),
    ] = None,
    loss: Annotated[
        float,
        typer.Option(
            min=0,
            max=0.5,
            help="Share of datagrams lost each way, 0 to 0.5; two thirds as many doubled, as many out of order.",
        ),
    ] = 0.0,
    report: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            writable=True,
            help="Markdown page in which to write the row of this kind of run.",
        ),
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Exit 1 when a must of the design is missed.")] = False,
    as_json: options.AsJson = False,
) -> None:
    """Measure a server with a swarm of simulated devices: CPU, memory, latency, and the lowest possible cost."""
    logs.configure("console", "warning")
    what = Bench(mode=mode, devices=devices, seconds=seconds, workers=workers, storm=storm, loss=loss)
    try:
        result = rig.run(run.run(what, _say if as_json else lambda _event: None))
    except RigFailed as error:
        options.fail(str(error))
    _show(result, mode, as_json=as_json)
    wrong = list(figures.contradictions(result.figures, mode, lossy=loss > 0))
    # Figures that do not fit together are no row of the page.
    if report is not None and not wrong:
        page = report.read_text(encoding="utf-8")
        report.write_text(renewed(page, what, result, Machine.here()), encoding="utf-8")
    if check:
        wrong += figures.missed(
            result.figures, mode, storm=storm is not None, lossy=loss > 0, workers_ratio=result.workers_ratio
        )
    for sentence in wrong:
        print(f"firstlight: {sentence}", file=sys.stderr)
    raise typer.Exit(1 if wrong else 0)


def _say(event: Mapping[str, object]) -> None:
    print(json.dumps(event), flush=True)


def _show(result: Result, mode: Mode, *, as_json: bool) -> None:
    if as_json:
        _say({"event": "rounds", "cpu_ms": result.rounds})
        if result.workers_ratio is not None:
            _say({"event": "workers", "cpu_against_one_worker": result.workers_ratio})
        _say(result.figures.as_json())
        return
    rows = [{"figure": name, "value": f"{value:g}"} for name, value in result.figures.as_json().items()]
    rows.append({"figure": "floor_counts", "value": str(floor.counts_of(mode))})
    if result.workers_ratio is not None:
        rows.append({"figure": "cpu_against_one_worker", "value": f"{result.workers_ratio:g}"})
    options.show(rows, ("figure", "value"), as_json=False, empty="")
