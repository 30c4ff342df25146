# One node of the task. The first brings Ray up and launches the sweep there, the others join it and end with it.
set -euo pipefail
: "${SKYPILOT_NODE_IPS:?run this with sky}" "${SKYPILOT_NODE_RANK:?run this with sky}"
: "${RAY_AUTH_TOKEN:?submit this with --secret RAY_AUTH_TOKEN}"
@{venv}
# On the node's own disk: a model is downloaded once a node.
export HF_HOME=@{scratch}/emsweep/huggingface RAY_TMPDIR=@{scratch}/emsweep
# Whoever lacks the secret, which every node of the task is given, cannot speak to this Ray.
export RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0
mkdir -p "$RAY_TMPDIR"
mapfile -t ips <<<"$SKYPILOT_NODE_IPS"
ip=${ips[$SKYPILOT_NODE_RANK]}
address=${ips[0]}:@{port} # SkyPilot's own Ray is at 6380

if ((SKYPILOT_NODE_RANK > 0)); then
  until ray health-check --address "$address" >/dev/null 2>&1; do
    sleep 2
  done
  # It ends with the head, whose node says what became of the sweep.
  ray start --block --address="$address" --node-ip-address="$ip" --num-gpus=@{gpus_per_node} \
    --disable-usage-stats || true
  exit 0
fi

ray start --head --block --node-ip-address="$ip" --port="${address##*:}" --include-dashboard=false \
  --num-gpus=@{gpus_per_node} --disable-usage-stats &
ray_head=$!
# Never `ray stop`: it would end SkyPilot's own.
trap 'kill "$ray_head" 2>/dev/null || true' EXIT
until ray health-check --address "$address" >/dev/null 2>&1; do
  if ! kill -0 "$ray_head" 2>/dev/null; then
    echo "error: Ray's head did not start; its words are above" >&2
    exit 1
  fi
  sleep 2
done
@{restore}
@{command} --address "$address" &
driver=$!
trap 'kill -TERM "$driver" 2>/dev/null || true' USR1 TERM
status=0
wait "$driver" || status=$?
while kill -0 "$driver" 2>/dev/null; do # a trap ends `wait` early
  status=0
  wait "$driver" || status=$?
done
@{keep}
exit "$status"
