#!/usr/bin/env bash
# One survey in one allocation: scheduler, driver and workers are tasks of one step.
#
#   sbatch --ntasks=34 deploy/slurm/run.sh SURVEY RUN_DIR [options of cwt-dask run]
#
# Two tasks are the scheduler and the driver, all others are workers with one thread each. What is asked for below is
# overruled by the same options of sbatch; `cwt-dask plan SURVEY` says how much memory a worker takes.
#SBATCH --job-name=cwt-dask
#SBATCH --ntasks=10
#SBATCH --cpus-per-task=1
#SBATCH --mem-per-cpu=2G
#SBATCH --time=12:00:00
#SBATCH --signal=B:TERM@180
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail

# Before SLURM kills a job for its memory, Dask's nanny restarts a worker that comes near to its limit.
memory_limit="$((${SLURM_MEM_PER_CPU:?ask for --mem-per-cpu} * 85 / 100))MiB"
# Scratch files of workers stay on their node.
export DASK_TEMPORARY_DIRECTORY="${SLURM_TMPDIR:-${TMPDIR:-/tmp}}"
export OMP_NUM_THREADS=1

# In the background, so that this shell gets the signal before walltime and forwards it: started tiles are finished.
srun cwt-dask run "$@" --cluster slurm --memory-limit "$memory_limit" &
step=$!
# Not by kill: srun ends its tasks at once when it gets SIGTERM itself.
# Where the whole job was cancelled, SLURM has sent it the signal, and answers that there is no such step.
trap 'scancel --quiet --signal=TERM "$SLURM_JOB_ID.0" || true' TERM
while status=0; wait "$step" || status=$?; kill -0 "$step" 2> /dev/null; do :; done
# Where the signal came as it ended, this is its status.
status=0; wait "$step" || status=$?

# Interrupted, whole: the same job resumes when it is requeued, unless it was cancelled, which is then its state.
if [ "$status" -eq 75 ] && [ "$(squeue --noheader --jobs="$SLURM_JOB_ID" --format=%T)" = RUNNING ]; then
    scontrol requeue "$SLURM_JOB_ID" || true
fi
exit "$status"
