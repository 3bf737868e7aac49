"""Event lists: found in files, checked, and binned onto a map in bounded memory."""

from cwt_dask.events.binning import Tally
from cwt_dask.events.ingest import EventCounts, ingest_events
from cwt_dask.events.reading import as_survey

__all__ = ["EventCounts", "Tally", "as_survey", "ingest_events"]
