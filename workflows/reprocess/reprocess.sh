#!/usr/bin/env bash
# One night of a scheduled pipeline: a new version of the survey is reprocessed, checked, compared and published.
#
#   workflows/reprocess/reprocess.sh PIPELINE_DIR
#
# In PIPELINE_DIR lie
#   surveys/NAME.fits   versions of the survey, or .fits.gz, .fits.fz; the last name in alphabetical order is the newest
#                       (survey-2026-11-25.fits)
#   settings.toml       settings of the first run; stopping = "fixed", so that tiles do not depend on each other
#   notify              optional, yours: called with the status and a file that says what happened
#   runs/NAME           made here: a run for each version, and its changes in NAME.txt
#   current             made here: a symbolic link to the last good run; it is switched last, at once
#
# Starts that overlap are harmless: the second one ends. A night that failed leaves `current` where it was, and the next one
# resumes its work. Further arguments are options of `cwt-dask run` that say where: --cluster slurm --workers 64.
set -euo pipefail
shopt -s nullglob

if [ $# -lt 1 ] || [ ! -d "$1" ]; then
    echo "usage: $0 PIPELINE_DIR [options of cwt-dask run]; PIPELINE_DIR must be a directory" >&2
    exit 2
fi
cd "$1"
shift
exec 9> .lock
flock --nonblock --conflict-exit-code 100 9 && locked=0 || locked=$?
if [ "$locked" -eq 100 ]; then echo "another start is at work"; exit 0; fi
if [ "$locked" -ne 0 ]; then echo "no lock can be had in $PWD" >&2; exit 1; fi

readarray -t surveys < <(for file in surveys/*.fits surveys/*.fits.gz surveys/*.fits.fz; do echo "$file"; done | sort)
if [ ${#surveys[@]} -eq 0 ]; then echo "no survey in $PWD/surveys"; exit 0; fi
survey=${surveys[-1]}
name=$(basename "${survey%%.fits*}")
if [ "$(readlink current || true)" = "runs/$name" ]; then echo "$name is current"; exit 0; fi
mkdir -p runs
report=runs/$name.txt

night() {
    if [ -e current ]; then
        old_run=$(readlink current)
        cwt-dask reprocess "$survey" "$old_run" "runs/$name" "$@"
    else
        cwt-dask run "$survey" "runs/$name" --config settings.toml "$@"
    fi
    cwt-dask verify "runs/$name"
    if [ -e current ]; then cwt-dask compare "$old_run" "runs/$name"; fi
    # Readers see the old run or the new one, never neither.
    ln --symbolic "runs/$name" .current
    mv --no-target-directory .current current
}

rm -f .current
# In the background and a group of its own, so that this shell gets a signal and forwards it: started tiles are finished.
set -m
(trap '' TERM INT; set -e; night "$@") > "$report" 2>&1 9>&- &
work=$!
set +m
trap 'kill -TERM -- "-$work" || true' TERM INT
while status=0; wait "$work" || status=$?; kill -0 "$work" 2> /dev/null; do :; done
status=0; wait "$work" || status=$?
# The status is the night's, also if the message fails.
if [ -x notify ]; then ./notify "$status" "$report" 9>&- || echo "notify has failed (status $?)" >&2; fi
exit "$status"
