#!/usr/bin/env bash
# A full-sky survey on a Dask cluster: ingest, plan, run, and three tiles checked by computing them again.
#
#   workflows/full_sky/full_sky.sh SURVEY.fits WORK_DIR [options of cwt-dask run]
#
# The options say which cluster: --scheduler-file FILE, --config slurm.toml ...; without any, this machine.
# It may be started again whenever it was interrupted (status 75) or failed: it resumes where it stopped.
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
# Size and time of a survey that is a file here; nothing of one that is elsewhere, or gone since.
made_of=$(stat --dereference --format='%s %y' "$survey" 2> /dev/null || true)
if [ ! -d "$store" ]; then
    # Before the survey is read: it may be replaced meanwhile.
    echo "$made_of" > "$store.made_of"
    # Read once: workers read the store, window by window.
    cwt-dask ingest "$survey" "$store"
elif [ -n "$made_of" ] && [ "$made_of" != "$(cat "$store.made_of" 2> /dev/null || true)" ]; then
    echo "$survey is not the file any more that $store was made of: give another WORK_DIR for the new one" >&2
    echo "(or remove $store, if only its time has changed)" >&2
    exit 2
fi
cwt-dask plan "$store" "$@"
# The maps of a sky are too large for FITS to be sensible.
cwt-dask run "$store" "$work_dir/run" --fits no "$@"
cwt-dask verify "$work_dir/run" --recompute 3
