"""The options that commands share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

import click

from cwt_dask.config.execution import ClusterKind
from cwt_dask.config.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def options(*groups: Sequence[Callable[..., Any]]) -> Callable[..., Any]:
    """Decorate a command with groups of options, in their order."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed([option for group in groups for option in group]):
            command = option(command)
        return command

    return decorate


class _Number(click.ParamType[Any]):
    """A number, or one of some words, or text that is judged later."""

    def __init__(self, name: str, kind: type, *, text: bool = False) -> None:
        self.name, self.kind, self.text = name, kind, text

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return self.kind(value)
        except ValueError:
            if self.text or value == "auto":
                return value
            self.fail(f"{value} is not {self.name}", param, ctx)


PIXELS_OR_AUTO = _Number("PIXELS|auto", int)
SCALE = _Number("PIXELS|DEG", float, text=True)

SOURCE = (
    click.option("--counts-hdu", default="COUNTS", show_default=True, help="HDU of the counts, by name or number."),
    click.option("--background-hdu", default="BACKGROUND", show_default=True, help="HDU of the background."),
    click.option("--exposure-hdu", default="EXPOSURE", show_default=True, help="HDU of the exposure, if there is one."),
    click.option("--mask-hdu", default="MASK", show_default=True, help="HDU of the mask (nonzero = use), if any."),
    click.option("--background", metavar="FILE[HDU]", help="Background from a file of its own."),
    click.option("--exposure", metavar="FILE[HDU]", help="Exposure from a file of its own."),
    click.option("--mask", metavar="FILE[HDU]", help="Mask from a file of its own."),
    click.option("--band", metavar="I|sum", help="Plane of a cube, from 0 on, or the sum of all."),
)

_DEFAULTS = Settings()
SETTINGS = (
    click.option("--n-scale", type=int, default=_DEFAULTS.n_scale, show_default=True, help="Number of scales."),
    click.option("--min-scale", type=SCALE, default=_DEFAULTS.min_scale, show_default=True, help="Finest scale."),
    click.option("--step-scale", type=float, default=_DEFAULTS.step_scale, show_default=True, help="Scale factor."),
    click.option("--old-kernels", is_flag=True, help="Differences of Gaussians, as first published."),
    click.option("--max-iter", type=int, default=_DEFAULTS.max_iter, show_default=True, help="Most iterations."),
    click.option(
        "--tol", type=float, default=_DEFAULTS.tol, show_default=True, help="Change of residual variance to stop at."
    ),
    click.option(
        "--significance-threshold",
        type=float,
        default=_DEFAULTS.significance_threshold,
        show_default=True,
        help="Least T/E of a pixel; not a number of sigmas where counts are few.",
    ),
    click.option("--significance-island-threshold", type=float, help="Least T/E of an island's largest pixel."),
    click.option("--keep-isolated", is_flag=True, help="Keep islands of one pixel."),
    click.option(
        "--stopping",
        type=click.Choice(["global", "tile", "fixed"]),
        default=_DEFAULTS.stopping,
        show_default=True,
        help="Stop by the whole map's residual, each tile by its own, or after exactly --max-iter.",
    ),
    click.option("--tile-size", type=PIXELS_OR_AUTO, default="auto", show_default=True, help="Side of a tile's core."),
    click.option("--margin", type=PIXELS_OR_AUTO, default="auto", show_default=True, help="Overlap of the windows."),
    click.option(
        "--wrap",
        type=click.Choice(["auto", "yes", "no"]),
        default="auto",
        show_default=True,
        help="Whether first and last column are neighbours (auto: as the WCS says).",
    ),
    click.option(
        "--memory-target", default="1GiB", show_default=True, help="Memory of a worker that automatic tiles aim at."
    ),
    click.option(
        "--source-prefix", default=_DEFAULTS.source_prefix, show_default=True, help="What names of sources begin with."
    ),
)

EXECUTION = (
    click.option("--workers", type=int, metavar="N", help="Worker processes; default: one a core; 0: none but this."),
    click.option("--threads", type=int, default=1, show_default=True, help="Threads that work on a tile."),
    click.option("--memory-limit", default="4GiB", show_default=True, help="Memory of a worker."),
    click.option(
        "--cluster",
        type=click.Choice(get_args(ClusterKind)),
        default="local",
        show_default=True,
        help="Where the workers are; address: --scheduler. More of each in [cluster] of the --config file.",
    ),
    click.option("--scheduler", metavar="ADDRESS", help="Dask scheduler to use, such as tls://host:8786."),
    click.option("--scheduler-file", metavar="FILE", help="File with the scheduler's address."),
    click.option("--keep-history", is_flag=True, help="Keep the model and support of every iteration."),
    click.option(
        "--fits", type=click.Choice(["yes", "no", "auto"]), default="auto", show_default=True, help="Write maps.fits."
    ),
    click.option("--no-report", is_flag=True, help="Leave report.html out."),
    click.option("--overwrite", is_flag=True, help="Start anew in an existing RUN_DIR."),
    click.option(
        "--log-format",
        type=click.Choice(["text", "json"]),
        default="text",
        show_default=True,
        help="Words for people, or a line of JSON an event.",
    ),
    click.option("--quiet", is_flag=True, help="Say nothing but errors."),
    click.option(
        "--config",
        metavar="FILE",
        multiple=True,
        help="TOML file with any of these options; given several times, later ones win, and the command line over all.",
    ),
)
