#!/usr/bin/env bash
# A Ray node is healthy while its head answers; any other container while emsweep starts.
set -euo pipefail
if [[ -n ${HEAD:-} ]]; then
  exec ray health-check --address "$HEAD"
fi
exec emsweep --help >/dev/null
