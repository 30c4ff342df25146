#!/usr/bin/env bash
# What a container of this project does: `head` and `worker` are nodes of a Ray cluster, everything else is a
# command of emsweep.
#
#   RAY_AUTH_TOKEN_PATH   file with the cluster's secret; without one a node is not started
#   HEAD                  host and port of the head, for `worker`
set -euo pipefail

node() {
  if [[ ! -s ${RAY_AUTH_TOKEN_PATH:-/run/secrets/ray_token} ]]; then
    echo "error: no secret in ${RAY_AUTH_TOKEN_PATH:-/run/secrets/ray_token}: anybody could run code on this node" >&2
    exit 2
  fi
  export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=${RAY_AUTH_TOKEN_PATH:-/run/secrets/ray_token}
  exec ray start --block --disable-usage-stats "$@"
}

case ${1:-} in
  head)
    shift
    # No dashboard and no client server: neither is needed, and both run code for whoever reaches them.
    node --head --port=6379 --include-dashboard=false "$@"
    ;;
  worker)
    shift
    node --address="${HEAD:?HEAD is not set: give host:port of the head}" "$@"
    ;;
  *)
    exec emsweep "$@"
    ;;
esac
