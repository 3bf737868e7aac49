"""Surveys: FITS files are read here only, once, and kept in a store of chunks that workers read window by window."""

from cwt_dask.survey.bands import band_of
from cwt_dask.survey.dataset import as_file
from cwt_dask.survey.facets import open_survey, sky_on
from cwt_dask.survey.ingest import Outline, free_path, ingest, outline_of, scan
from cwt_dask.survey.origin import describe_origin
from cwt_dask.survey.region import Region
from cwt_dask.survey.source import SurveySource
from cwt_dask.survey.statistics import SurveyStatistics
from cwt_dask.survey.store import Survey, Window, digest_table, is_store
from cwt_dask.survey.wcs import has_position, pixel_scale, wcs_from_text

__all__ = [
    "Outline",
    "Region",
    "Survey",
    "SurveySource",
    "SurveyStatistics",
    "Window",
    "as_file",
    "band_of",
    "describe_origin",
    "digest_table",
    "free_path",
    "has_position",
    "ingest",
    "is_store",
    "open_survey",
    "outline_of",
    "pixel_scale",
    "scan",
    "sky_on",
    "wcs_from_text",
]
