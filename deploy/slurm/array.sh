#!/usr/bin/env bash
# Many surveys, each in a job of its own on one node: an array job over the lines "SURVEY RUN_DIR" of a file.
#
#   sbatch --array=1-"$(grep --count '[^[:space:]]' fields.txt)" deploy/slurm/array.sh fields.txt [options of cwt-dask run]
#
# What is asked for below is overruled by the same options of sbatch.
#SBATCH --job-name=cwt-dask
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=8
#SBATCH --mem-per-cpu=2G
#SBATCH --time=04:00:00
#SBATCH --signal=B:TERM@180
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail

fields=$1
shift
number=${SLURM_ARRAY_TASK_ID:?submit with --array}
# Blank lines do not count. The last line may lack its end, and `read` fails on that though it has read it.
read -r survey run_dir < <(grep '[^[:space:]]' "$fields" | sed --quiet "${number}p") || true
if [ -z "${run_dir:-}" ]; then
    echo "$fields has no line SURVEY RUN_DIR of number $number (blank lines do not count)" >&2
    exit 2
fi

# One worker a core, and memory left for the driver.
memory_limit="$((${SLURM_MEM_PER_CPU:?ask for --mem-per-cpu} * 75 / 100))MiB"
export DASK_TEMPORARY_DIRECTORY="${SLURM_TMPDIR:-${TMPDIR:-/tmp}}"

srun --cpus-per-task="$SLURM_CPUS_PER_TASK" cwt-dask run "$survey" "$run_dir" "$@" --workers "$SLURM_CPUS_PER_TASK" --memory-limit "$memory_limit" &
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
