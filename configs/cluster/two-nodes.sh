#!/usr/bin/env bash
# Two nodes without a batch system: start this on both, on a file system that both share.
#   node0$ configs/cluster/two-nodes.sh 0 node0 configs/models/124m.yaml
#   node1$ configs/cluster/two-nodes.sh 1 node0 configs/models/124m.yaml
# MASTER_PORT: where the launchers meet on node 0, if 29500 is taken there.
set -euo pipefail
if [ $# -lt 3 ]; then
  echo "usage: $0 NODE_RANK MASTER_ADDR CONFIG [key=value ...]" >&2
  exit 2
fi
rank=$1 master=$2
shift 2
exec "${POLARTRAIN:-build/release/tools/polartrain}" launch --nnodes 2 --node-rank "$rank" --master-addr "$master" \
  --master-port "${MASTER_PORT:-29500}" --nproc-per-node auto --max-restarts 3 train "$@"
