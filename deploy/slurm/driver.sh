#!/usr/bin/env bash
# One survey, whose workers are jobs of their own that come and go: this one drives them, and takes one core.
#
#   sbatch deploy/slurm/driver.sh SURVEY RUN_DIR --workers 64 --config deploy/slurm/workers.toml [options]
#
#SBATCH --job-name=cwt-dask-driver
#SBATCH --ntasks=1
#SBATCH --mem=2G
#SBATCH --time=2-00:00:00
#SBATCH --signal=B:TERM@180
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail

cwt-dask run "$@" &
driver=$!
trap 'kill -TERM "$driver" || true' TERM
while status=0; wait "$driver" || status=$?; kill -0 "$driver" 2> /dev/null; do :; done
# Where the signal came as it ended, this is its status.
status=0; wait "$driver" || status=$?

# Interrupted, whole: the same job resumes when it is requeued, unless it was cancelled, which is then its state.
if [ "$status" -eq 75 ] && [ "$(squeue --noheader --jobs="$SLURM_JOB_ID" --format=%T)" = RUNNING ]; then
    scontrol requeue "$SLURM_JOB_ID" || true
fi
exit "$status"
