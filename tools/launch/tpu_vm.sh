#!/usr/bin/env bash
# Runs a command on every worker of a TPU VM pod, and starts it again when the pod was taken away.
# docs/launch.md tells it step by step.
set -euo pipefail

# ---- Every setting. A flag of the same name sets it: --zone=us-west4-a ------------------------
name=roberta                         # Of the queued resource and of its TPU VM.
zone=                                # Must be given.
project=                             # Empty: gcloud's own.
accelerator_type=v5litepod-16        # 16 chips of v5e; v5p-128 and v6e-64 are 64 chips each.
runtime_version=v2-alpha-tpuv5-lite  # The image of the VMs; it goes with the type of the chips.
spot=true                            # Preemptible chips; --spot=false: on demand.
share=                               # SERVER:/EXPORT (NFS, Filestore) or gs://BUCKET (gcsfuse).
mount_point=/mnt/shared              # Where every worker has it.
dataset=                             # Local folder that `copy` puts into MOUNT_POINT/datasets.
python=3.12
max_failures=3                       # Restarts after exit codes other than 0, 2 and 130.
poll_seconds=60
dry_run=false                        # --dry_run prints the commands instead of running them.

usage() {
  cat <<'END'
Usage: tools/launch/tpu_vm.sh ACTION --zone=ZONE [--flag=value ...] [-- COMMAND]

  create   asks for the pod and waits until it is there
  setup    mounts the share on every worker and makes a Python environment
  copy     copies this checkout to every worker, and --dataset=FOLDER to the share
  run      all of the above where needed, then COMMAND on every worker; watches it, and starts it
           again on a new pod when the pod was preempted, until the exit code is 0 or 2
  watch    shows what the first worker prints
  stop     sends SIGTERM: pretrain saves and ends with 130, and `run` does not start it again
  delete   gives the pod back

Flags, with their defaults:
  --name=roberta  --project=  --accelerator_type=v5litepod-16
  --runtime_version=v2-alpha-tpuv5-lite  --spot=true  --share=  --mount_point=/mnt/shared
  --dataset=  --python=3.12  --max_failures=3  --poll_seconds=60  --dry_run

  tools/launch/tpu_vm.sh run --zone=us-west4-a --share=10.0.0.2:/share -- \
    roberta-jax pretrain --config=configs/pretrain/pods/base_v5e_16.py \
    --config.data.path=/mnt/shared/datasets/books --workdir=/mnt/shared/runs/base
END
}

complain() { # Something to mend in the flags.
  echo "tpu_vm.sh: $1 --help tells more." >&2
  exit 2
}

say() { echo "tpu_vm.sh: $*" >&2; }

# ---- Flags ------------------------------------------------------------------------------------
action=
command=()
while [ $# -gt 0 ]; do
  case $1 in
    -h | --help) usage; exit 0 ;;
    --) shift; command=("$@"); break ;;
    --dry_run) dry_run=true ;;
    --name=* | --zone=* | --project=* | --accelerator_type=* | --runtime_version=* | --spot=* | \
      --share=* | --mount_point=* | --dataset=* | --python=* | --max_failures=* | \
      --poll_seconds=* | --dry_run=*)
      flag=${1%%=*}
      printf -v "${flag#--}" '%s' "${1#*=}"
      ;;
    -*) complain "$1 is not a flag." ;;
    *)
      [ -z "$action" ] || complain "There is one action, not $action and $1; COMMAND follows --."
      action=$1
      ;;
  esac
  shift
done
[ -n "$action" ] || { usage >&2; exit 2; }
case $action in
  create | setup | copy | run | watch | stop | delete) ;;
  *) complain "$action is not an action." ;;
esac
[ -n "$zone" ] || complain "--zone is missing."
case $action in
  setup | run) [ -n "$share" ] || complain "--share is missing: what all workers mount." ;;
esac
[ "$action" != run ] || [ ${#command[@]} -gt 0 ] || complain "The command is missing, after --."
for flag in spot dry_run; do
  [[ ${!flag} =~ ^(true|false)$ ]] || complain "--$flag=${!flag} is neither true nor false."
done
for flag in max_failures poll_seconds; do
  [[ ${!flag} =~ ^[0-9]+$ ]] || complain "--$flag=${!flag} is not a number."
done
if [ -n "$dataset" ]; then
  [ -d "$dataset" ] || complain "--dataset=$dataset is not a folder."
  dataset=$(cd "$dataset" && pwd)
fi

cd "$(dirname "$0")/../.."
place=("--zone=$zone" --quiet)
[ -z "$project" ] || place+=("--project=$project")
archive=build/roberta_jax.tar.gz

# ---- Commands ---------------------------------------------------------------------------------
quoted() { # Its arguments, as a shell reads them.
  local word line=
  for word in "$@"; do
    if [[ ! $word =~ ^[[:alnum:]_./:=@,%+-]+$ ]]; then word="'${word//\'/\'\\\'\'}'"; fi
    line+="${line:+ }$word"
  done
  echo "$line"
}

perform() { # Runs a command, or prints it.
  if [ "$dry_run" = true ]; then quoted "$@"; else "$@"; fi
}

tpus() { perform gcloud compute tpus "$@"; }

on_workers() { # on_workers WORKERS SCRIPT: all, or a number.
  tpus tpu-vm ssh "$name" "${place[@]}" "--worker=$1" "--command=$2"
}

# The state of a resource into $state: as gcloud says it, NONE where there is none, and UNKNOWN
# where gcloud cannot tell, with its words in $answer.
read_state() { # read_state queued-resources|tpu-vm FIELD
  if [ "$dry_run" = true ]; then
    tpus "$1" describe "$name" "${place[@]}" "--format=value($2)"
    if [ "$1" = tpu-vm ]; then state=READY; else state=$dry_state; fi
  elif answer=$(tpus "$1" describe "$name" "${place[@]}" "--format=value($2)" 2>&1); then
    state=${answer##*$'\n'}
  else
    case $answer in
      *NOT_FOUND* | *"not found"*) state=NONE ;;
      *) state=UNKNOWN ;;
    esac
  fi
}

# What became of the pod, into $pod: there, gone, none (never asked for), coming, or unknown.
dry_state=NONE
read_pod() {
  read_state queued-resources state.state
  case $state in
    ACTIVE) ;;
    NONE) pod=none; return ;;
    SUSPENDING | SUSPENDED | FAILED | DELETING) pod=gone; return ;;
    UNKNOWN) pod=unknown; return ;;
    *) pod=coming; return ;;
  esac
  # A preempted VM may be seen before its queued resource is suspended.
  read_state tpu-vm state
  case $state in
    READY) pod=there ;;
    NONE | PREEMPTED | TERMINATED | STOPPED | DELETING) pod=gone ;;
    UNKNOWN) pod=unknown ;;
    *) pod=coming ;;
  esac
}

request_pod() {
  local flags=("--node-id=$name" "--accelerator-type=$accelerator_type"
    "--runtime-version=$runtime_version")
  if [ "$spot" = true ]; then flags+=(--spot); fi
  say "asking for $accelerator_type in $zone"
  tpus queued-resources create "$name" "${place[@]}" "${flags[@]}"
  dry_state=ACTIVE
}

delete_pod() {
  say "deleting $name"
  tpus queued-resources delete "$name" "${place[@]}" --force
}

# Waits for the pod; asks for it where there is none, and again where it was taken away.
create_pod() {
  local told=
  while true; do
    read_pod
    case $pod in
      there) return ;;
      none) request_pod; continue ;;
      gone) delete_pod; request_pod; continue ;;
      unknown) say "gcloud cannot tell the state of $name: $answer"; exit 1 ;;
    esac
    [ "$told" = "$state" ] || say "$name: $state"
    told=$state
    sleep "$poll_seconds"
  done
}

set_up() {
  local mount
  case $share in
    gs://*)
      mount="command -v gcsfuse >/dev/null || { echo 'gcsfuse is not on this image.' >&2; exit 1; }
  gcsfuse --implicit-dirs --rename-dir-limit=100000 $(quoted "${share#gs://}") $mount_point"
      ;;
    *)
      mount="command -v mount.nfs >/dev/null || sudo apt-get install -qq -y nfs-common
  sudo mount -t nfs -o hard,nconnect=4 $(quoted "$share") $mount_point
  sudo chmod a+rwx $mount_point"
      ;;
  esac
  on_workers all "set -e
if ! mountpoint -q $mount_point; then
  sudo mkdir -p $mount_point
  sudo chown \"\$USER\" $mount_point
  $mount
fi
[ -x ~/venv/bin/python ] || {
  python3 -m pip install --user --quiet uv
  python3 -m uv venv --quiet --seed --python $python ~/venv
}"
}

copy_code() {
  perform mkdir -p build
  perform tar -czf "$archive" --exclude=__pycache__ roberta_jax configs pyproject.toml setup.cfg \
    constraints.txt README.md LICENSE
  tpus tpu-vm scp "$archive" "$name:roberta_jax.tar.gz" "${place[@]}" --worker=all
  on_workers all "set -e
mkdir -p ~/roberta_jax
tar -xzf ~/roberta_jax.tar.gz -C ~/roberta_jax
cd ~/roberta_jax
~/venv/bin/python -m pip install --quiet -e '.[tpu]' -c constraints.txt"
}

copy_dataset() {
  [ -n "$dataset" ] || return 0
  on_workers 0 "mkdir -p $mount_point/datasets"
  tpus tpu-vm scp "$dataset" "$name:$mount_point/datasets/" "${place[@]}" --recurse --worker=0
}

# Detached, so that it outlives this connection; the shell around it waits for its exit code.
start_command() {
  local inner
  inner="trap : TERM; $(quoted "${command[@]}"); echo \$? >run.exit"
  on_workers all "cd ~/roberta_jax
rm -f run.exit run.stopped
export PATH=~/venv/bin:\$PATH
setsid nohup bash -c $(quoted "$inner") >>run.log 2>&1 </dev/null &
echo \$! >run.pid"
}

# shellcheck disable=SC2016 # The workers expand it.
poll='cd ~/roberta_jax 2>/dev/null || { echo run:idle; exit; }
if [ -e run.exit ] && [ -e run.stopped ]; then echo run:stopped
elif [ -s run.exit ]; then echo "run:$(cat run.exit)"
elif [ ! -e run.pid ]; then echo run:idle
elif kill -0 "$(cat run.pid)" 2>/dev/null; then echo run:running
else echo run:lost; fi'

# What the workers say, into $outcome: running, idle, stopped, an exit code, or silent.
# 2 counts as soon as one worker has it; else the command runs until it has ended everywhere.
read_outcome() {
  local said
  if [ "$dry_run" = true ]; then
    on_workers all "$poll"
    outcome=0
    return
  fi
  if ! said=$(on_workers all "$poll" 2>/dev/null); then outcome=silent; return; fi
  said=$(grep -o 'run:[a-z0-9]*' <<<"$said" | sort -u) || { outcome=silent; return; }
  case $said in
    *run:stopped*) outcome=stopped ;;
    *) if grep -qx run:2 <<<"$said"; then outcome=2
       elif grep -qx -e run:running -e run: <<<"$said"; then outcome=running
       elif [ "$said" = run:idle ]; then outcome=idle
       elif [ "$said" = run:0 ]; then outcome=0
       elif grep -qxv -e run:0 -e run:130 <<<"$said"; then outcome=1
       else outcome=130; fi ;;
  esac
}

# Waits until the command has ended, or the pod is gone: $outcome is an exit code, stopped, or gone.
wait_for_end() {
  while true; do
    read_outcome
    case $outcome in
      running) ;;
      silent | idle)
        read_pod
        case $pod in gone | none) outcome=gone; return ;; esac
        if [ "$outcome" = idle ] && [ "$pod" = there ]; then outcome=gone; return; fi
        say "the workers do not answer; the pod is $pod"
        ;;
      *) return ;;
    esac
    sleep "$poll_seconds"
  done
}

run() {
  local failures=0
  create_pod
  if [ "$dry_run" = false ]; then read_outcome; else outcome=idle; fi
  if [ "$outcome" = running ]; then
    say "the command is running already; watching it"
  else
    set_up; copy_code; copy_dataset; start_command
  fi
  while true; do
    wait_for_end
    case $outcome in
      0) say "done. $name is still there and is charged: tpu_vm.sh delete"; return 0 ;;
      2) say "exit code 2: something to mend in the flags, the config or the data, on a worker:"
         on_workers 0 'tail -n 20 ~/roberta_jax/run.log' >&2 || true
         stop_command || true
         return 2 ;;
      stopped) say "stopped; the same command goes on"; return 130 ;;
      gone) say "the workers are gone, and the command with them; starting it again" ;;
      130) say "interrupted after a clean save; starting again" ;;
      *)
        # Workers that lost one which was preempted end with 1 before gcloud knows of it.
        sleep "$poll_seconds"
        read_pod
        if [ "$pod" = gone ] || [ "$pod" = none ]; then
          say "a worker was taken away; starting it again"
        else
          failures=$((failures + 1))
          say "failed on a worker, $failures times; at most $max_failures are followed by a restart:"
          on_workers 0 'tail -n 20 ~/roberta_jax/run.log' >&2 || true
          if [ "$failures" -gt "$max_failures" ]; then return 1; fi
        fi
        ;;
    esac
    create_pod; set_up; copy_code; start_command
  done
}

stop_command() { # To the whole group: the shell around the command waits for it.
  # shellcheck disable=SC2016 # The workers expand it.
  on_workers all 'cd ~/roberta_jax && touch run.stopped && kill -TERM -- "-$(cat run.pid)"'
}

case $action in
  create) create_pod ;;
  setup) set_up ;;
  copy) copy_code; copy_dataset ;;
  run) run ;;
  watch) on_workers 0 'tail -n 40 -F ~/roberta_jax/run.log' ;;
  stop) stop_command ;;
  delete) delete_pod ;;
esac
