#!/usr/bin/env bash
# A full-sky survey on a Dask cluster: ingest, plan, run, and three tiles checked by computing them again.
#
#   workflows/full_sky/full_sky.sh SURVEY.fits WORK_DIR [options of cwt-dask run]
#
# The options say which cluster: --scheduler-file FILE, --config slurm.toml ...; without any, this machine.
# It may be started again whenever it was interrupted (status 75) or failed: it goes on where it stopped.
set -euo pipefail

if [ $# -lt 2 ]; then
    echo "usage: $0 SURVEY.fits WORK_DIR [options of cwt-dask run]" >&2
    exit 2
fi
survey=$1
work_dir=$2
shift 2

mkdir -p "$work_dir"
store=$work_dir/$(basename "$survey").zarr
# Read once: workers read the store, window by window.
if [ ! -d "$store" ]; then cwt-dask ingest "$survey" "$store"; fi
cwt-dask plan "$store" "$@"
# The maps of a sky are too large for FITS to be sensible.
cwt-dask run "$store" "$work_dir/run" --fits no "$@"
cwt-dask verify "$work_dir/run" --recompute 3
