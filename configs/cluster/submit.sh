#!/bin/sh
# One run on a Ray cluster that is up and has zorba_ray installed on its nodes (Dockerfile, launcher.yaml):
#
#   export RAY_API_SERVER_ADDRESS=http://HEAD:8265     # `ray dashboard configs/cluster/launcher.yaml` forwards it to here
#   configs/cluster/submit.sh opt125m_sst2 clients.count=200 out=/shared/runs/first
#   configs/cluster/submit.sh --resume /shared/runs/first
#
# `out` is an absolute path on the head, where the driver runs. On a cluster with token authentication, set
# RAY_AUTH_MODE=token and RAY_AUTH_TOKEN (or RAY_AUTH_TOKEN_PATH) here as well.
# A config file of your own must be on the head too: give its path there.
set -eu
case " $* " in
    *" out=/"* | *" --resume /"*) ;;
    *) echo "submit.sh: say where the run's folder is on the head: out=/an/absolute/path, or --resume /its/path" >&2; exit 2 ;;
esac
exec ray job submit --runtime-env-json '{"env_vars": {"OMP_NUM_THREADS": "1"}}' -- \
    python -m zorba_ray.run "$@" --address auto
