#!/usr/bin/env bash
#SBATCH --job-name=emsweep-@{name}
#SBATCH --nodes=@{nodes}
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=@{cpus_per_node}
#SBATCH --mem=@{memory_gib}G
#SBATCH --time=@{time}
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:USR1@@{notice_s}
#SBATCH --output=%x-%j.log
@{site}
# Brings Ray up on the allocation, launches the sweep there, and queues itself again when the machines are
# taken away: a launch runs only what is missing.
# shellcheck disable=SC1091,SC2329
set -euo pipefail
: "${SLURM_JOB_ID:?submit this with sbatch}" "${SLURM_JOB_NODELIST:?submit this with sbatch}"

# Where the nodes find the head. Whoever lacks the secret beside it cannot speak to this Ray.
dir=@{directory}
mkdir -p "$dir"
[[ -s $dir/ray-token ]] || (umask 077 && od -An -N32 -tx1 /dev/urandom | tr -d ' \n' >"$dir/ray-token")
# However this ends, the nodes hear of it; cut short by a notice, it begins again.
finish() {
  local status=$?
  if ((status == 130)); then
    meet awaited ""
    scontrol requeue "$SLURM_JOB_ID"
  else
    meet over ""
  fi
  exit "$status"
}
trap finish EXIT
RAY_AUTH_TOKEN_PATH=$(realpath "$dir/ray-token")
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH RAY_USAGE_STATS_ENABLED=0
meet() {
  (umask 077 && printf '{"version": 1, "state": "%s", "address": "%s"}\n' "$@" >"$dir/.meeting.json.$$.tmp")
  mv "$dir/.meeting.json.$$.tmp" "$dir/meeting.json"
}
meet awaited ""
@{container}

@{setup}
@{exports}

# Models are downloaded once a node, to its own disk.
export HF_HOME=@{scratch}/emsweep-${USER:-$(id -un)}/huggingface
export RAY_TMPDIR=@{scratch}
export EMSWEEP_NODES=@{nodes_asked} # what `status` counts those against that are there

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=${nodes[0]} # where this script runs
ip=$(hostname -I | awk '{print $1}')
# Not the port of the life before, whose Ray may not have ended yet, nor one that anybody else has.
port=$((20000 + (SLURM_JOB_ID + 1009 * ${SLURM_RESTART_COUNT:-0}) % 20000))
while (exec 3<>"/dev/tcp/$ip/$port") 2>/dev/null; do
  port=$((port + 1))
done
address=$ip:$port

# What a step does not say it takes from the job: the number of tasks of all nodes, but one core of each.
on_nodes() {
  srun --export=ALL @{step}--nodes="$1" --ntasks="$1" --ntasks-per-node=1 \
    --cpus-per-task=@{cpus_per_node} --kill-on-bad-exit=0 "${@:2}" &
}
on_nodes 1 --nodelist="$head" @{inside}ray start --head --block --node-ip-address="$ip" --port="$port" \
  --include-dashboard=false --disable-usage-stats --num-cpus=@{head_cpus} --num-gpus=@{gpus_per_node}
ray_head=$!
until @{is_up}; do
  if ! kill -0 "$ray_head" 2>/dev/null; then
    echo "error: Ray's head did not start on $head; its words are above" >&2
    exit 1
  fi
  sleep 2
done
meet open "$address"
if ((${#nodes[@]} > 1)); then
  on_nodes $((${#nodes[@]} - 1)) --exclude="$head" @{inside}emsweep join "$dir" --trust --stay \
    --cpus @{cpus_per_node} --gpus @{gpus_per_node}
fi

@{here}@{command} --address "$address" &
driver=$!
# Notice of a preemption or of the time limit: what runs may finish, the rest waits for the next allocation.
trap 'kill -@{notice} "$driver" 2>/dev/null || true' USR1 TERM
status=0
wait "$driver" || status=$?
while kill -0 "$driver" 2>/dev/null; do # a trap ends `wait` early
  status=0
  wait "$driver" || status=$?
done
exit "$status"
