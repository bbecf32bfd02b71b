#!/usr/bin/env bash
# Runs a command on a TPU slice of a GKE cluster through XPK, which writes a JobSet like
# gke/jobset.yaml by itself. docs/launch.md tells how the cluster and its storage are made.
set -euo pipefail

# ---- Every setting. A flag of the same name sets it: --cluster=mine ----------------------------
cluster=                # Must be given.
zone=                   # Must be given.
project=                # Must be given.
image=                  # Must be given: built from tools/launch/Dockerfile.tpu and pushed.
workload=roberta
tpu_type=v5litepod-16
max_restarts=100        # Preemptions count too.
grace_seconds=180       # From SIGTERM to SIGKILL: what a save may take.
dry_run=false           # --dry_run prints the command instead of running it.

usage() {
  cat <<'END'
Usage: tools/launch/xpk.sh --cluster=NAME --zone=ZONE --project=PROJECT --image=IMAGE [--flag=value ...] -- COMMAND

Flags, with their defaults: --workload=roberta --tpu_type=v5litepod-16 --max_restarts=100
  --grace_seconds=180 --dry_run

  tools/launch/xpk.sh --cluster=mine --zone=us-west4-a --project=my-project \
    --image=us-west4-docker.pkg.dev/my-project/images/roberta-jax:tpu -- \
    roberta-jax pretrain --config=configs/pretrain/pods/base_v5e_16.py \
    --config.data.path=/mnt/shared/datasets/books --workdir=/mnt/shared/runs/base
END
}

complain() {
  echo "xpk.sh: $1 --help tells more." >&2
  exit 2
}

command=()
[ $# -gt 0 ] || { usage >&2; exit 2; }
while [ $# -gt 0 ]; do
  case $1 in
    -h | --help) usage; exit 0 ;;
    --) shift; command=("$@"); break ;;
    --dry_run) dry_run=true ;;
    --cluster=* | --zone=* | --project=* | --image=* | --workload=* | --tpu_type=* | \
      --max_restarts=* | --grace_seconds=*)
      flag=${1%%=*}
      printf -v "${flag#--}" '%s' "${1#*=}"
      ;;
    *) complain "$1 is not a flag; COMMAND follows --." ;;
  esac
  shift
done
for flag in cluster zone project image; do
  [ -n "${!flag}" ] || complain "--$flag is missing."
done
[ ${#command[@]} -gt 0 ] || complain "The command is missing, after --."

# `exec`: XPK sends SIGTERM to a subshell, which has to be the command itself. XPK starts again
# after exit codes from 127 on; a lost process is told by 1, and 2 must not start again.
xpk_command=(xpk workload create
  "--cluster=$cluster" "--zone=$zone" "--project=$project"
  "--workload=$workload" "--tpu-type=$tpu_type" --num-slices=1
  "--docker-image=$image"
  "--max-restarts=$max_restarts" --restart-on-exit-codes=1
  "--termination-grace-period-seconds=$grace_seconds"
  "--command=exec $(printf '%q ' "${command[@]}")")
if [ "$dry_run" = true ]; then
  printf '%s\n' "${xpk_command[@]}"
else
  "${xpk_command[@]}"
fi
