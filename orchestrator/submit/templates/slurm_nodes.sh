#!/usr/bin/env bash
#SBATCH --job-name=emsweep-@{name}-nodes
#SBATCH --array=1-@{nodes}
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=@{cpus_per_node}
#SBATCH --mem=@{memory_gib}G
#SBATCH --time=@{time}
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:USR1@@{notice_s}
#SBATCH --output=%x-%A-%a.log
@{site}
# One node of an elastic sweep. It joins the Ray that the sweep's driver has brought up, whenever it starts and
# wherever that is; it is given back when no run is left for it, and queued again when it is taken away before.
# shellcheck disable=SC1091
set -euo pipefail
: "${SLURM_JOB_ID:?submit this with sbatch}"
@{setup}
@{exports}

# Models are downloaded once a node, to its own disk.
export HF_HOME=@{scratch}/emsweep-${USER:-$(id -un)}/huggingface
export RAY_TMPDIR=@{scratch}
mkdir -p @{directory} # a node may begin before the driver
@{container}

@{alone}emsweep join @{directory} --trust --cpus @{cpus_per_node} --gpus @{gpus_per_node} --notice @{grace_s} &
node=$!
trap 'kill -@{notice} "$node" 2>/dev/null || true' USR1 TERM
status=0
wait "$node" || status=$?
while kill -0 "$node" 2>/dev/null; do # a trap ends `wait` early
  status=0
  wait "$node" || status=$?
done
if ((status == 130)); then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
