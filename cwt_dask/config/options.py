"""All options of a call, by what they are for: settings, execution, and where the survey's planes are found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dask.utils import parse_bytes

from cwt_dask.config.execution import Cluster, Execution
from cwt_dask.config.settings import Settings, kernels_of, option_names, refuse_unknown
from cwt_dask.config.validation import shown
from cwt_dask.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping

SOURCE_OPTIONS = (
    "counts_hdu",
    "background_hdu",
    "exposure_hdu",
    "mask_hdu",
    "background",
    "exposure",
    "mask",
    "band",
)
_SIZES = ("memory_limit", "memory_target")
OPTION_NAMES = (*option_names(Settings), *option_names(Execution), *SOURCE_OPTIONS)


@dataclass(frozen=True)
class Options:
    """All options of a call, sorted."""

    settings: Settings
    execution: Execution
    source: dict[str, Any]

    @classmethod
    def parse(cls, given: Mapping[str, Any]) -> Options:
        """Sort options by what they are for.

        Raises
        ------
        SettingsError
            If one is unknown or impossible.
        """
        settings, execution = option_names(Settings), option_names(Execution)
        refuse_unknown(OPTION_NAMES, given)
        given = {name: _bytes(name, value) if name in _SIZES else value for name, value in given.items()}
        if "cluster" in given:
            given["cluster"] = Cluster.parse(given["cluster"])
        elif given.get("scheduler") or given.get("scheduler_file"):
            given["cluster"] = Cluster("address")
        options = cls(
            Settings(**{name: value for name, value in given.items() if name in settings}),
            Execution(**{name: value for name, value in given.items() if name in execution}),
            {name: value for name, value in given.items() if name in SOURCE_OPTIONS},
        )
        if not isinstance(options.settings.min_scale, str):
            # What is wrong without a look at the survey is said before a survey is read.
            kernels_of(options.settings)
        return options


def _bytes(name: str, size: Any) -> int:
    try:
        # Dask takes true for one byte.
        return int(parse_bytes(None if isinstance(size, bool) else size))
    except (ValueError, TypeError, AttributeError, OverflowError) as error:
        raise SettingsError(f"{name} is {shown(size)}: it must be a size such as 4GiB") from error
