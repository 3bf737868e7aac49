"""Event lists: found in files, checked, and binned onto a map in bounded memory."""

from cwt_dask.events.binning import Tally
from cwt_dask.events.ingest import EventCounts, ingest_events

__all__ = ["EventCounts", "Tally", "ingest_events"]
