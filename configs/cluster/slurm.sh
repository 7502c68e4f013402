#!/bin/bash
#SBATCH --job-name=zorba
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --gpus-per-node=4
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@60
#SBATCH --requeue
# One run on the nodes of a Slurm job, with a Ray that lasts as long as the job. zorba_ray is in the environment that the
# job inherits, the same on all nodes; change the lines above, or give them to sbatch:
#
#   sbatch configs/cluster/slurm.sh opt125m_sst2 --resume-or-start /shared/runs/first
#   sbatch --nodes=1 --gpus-per-node=1 configs/cluster/slurm.sh opt125m_sst2 clients.count=20 out=/shared/runs/second
#
# The folder is on a disk that all nodes see. A minute before the end the run stops after its round; --resume-or-start goes
# on with it when the job comes again.
#
# Two jobs on one node do not meet: each Ray has its own ports, directory and token, and the GPUs that Slurm gave to its
# job (CUDA_VISIBLE_DEVICES), none where it gave none. Ports follow from the job's number: jobs on one node whose numbers
# differ by a multiple of 1200 would collide.
set -eu
case " $* " in
    *" out=/"* | *" --resume /"* | *" --resume-or-start /"*) ;;
    *) echo "slurm.sh: say where the run's folder is: out=/an/absolute/path, --resume or --resume-or-start /its/path" >&2
       exit 2 ;;
esac
: "${SLURM_JOB_ID:?slurm.sh is given to sbatch}"

base=$((20000 + SLURM_JOB_ID % 1200 * 10))
temporary=/tmp/ray-$SLURM_JOB_ID
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN OMP_NUM_THREADS=1 RAY_ADDRESS
RAY_AUTH_TOKEN=$(python -c 'import secrets; print(secrets.token_hex(32))')
address=$(srun --nodes=1 --ntasks=1 --nodelist="$head" hostname -I | cut -d ' ' -f 1)
RAY_ADDRESS=$address:$base

# On each node: what Slurm gave to this job there, and ports that nobody else's Ray takes.
start='
gpus=$(printf "%s" "${CUDA_VISIBLE_DEVICES:-}" | tr "," "\n" | grep -c . || true)
exec ray start --block --disable-usage-stats --num-cpus="${SLURM_CPUS_PER_TASK:-1}" --num-gpus="$gpus" \
    --min-worker-port=0 --max-worker-port=0 --dashboard-agent-listen-port="$1" "${@:2}"'

run=
end() {
    trap - EXIT
    srun --overlap --ntasks-per-node=1 rm -rf "$temporary" || true
    kill $(jobs -p) 2>/dev/null || true
}
trap end EXIT
trap '[ -z "$run" ] || kill -TERM "$run"' TERM

srun --overlap --nodes=1 --ntasks=1 --nodelist="$head" bash -c "$start" start $((base + 1)) \
    --head --node-ip-address="$address" --port="$base" --ray-client-server-port=$((base + 2)) \
    --include-dashboard=false --temp-dir="$temporary" &
until ray health-check --address "$RAY_ADDRESS" >/dev/null 2>&1; do sleep 1; done
if [ "$SLURM_JOB_NUM_NODES" -gt 1 ]; then
    srun --overlap --nodes=$((SLURM_JOB_NUM_NODES - 1)) --ntasks-per-node=1 --exclude="$head" \
        bash -c "$start" start $((base + 1)) --address="$RAY_ADDRESS" &
fi

# On the head's node, when all nodes are there.
srun --overlap --nodes=1 --ntasks=1 --nodelist="$head" bash -c '
python -c "
import ray, sys, time
ray.init(address=\"auto\", log_to_driver=False)
while sum(node[\"Alive\"] for node in ray.nodes()) < int(sys.argv[1]): time.sleep(1)
" "$SLURM_JOB_NUM_NODES"
exec python -m zorba_ray.run "$@" --address auto' run "$@" &
run=$!
status=0
wait "$run" || status=$?
while kill -0 "$run" 2>/dev/null; do wait "$run" || status=$?; done  # a signal ends the first wait, not the run
exit "$status"
