"""configs/cluster/: files for other machines, checked as far as this one can."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

import zorba_ray
from zorba_ray.commands.run import main
from zorba_ray.runs.config import load_config

ROOT = Path(__file__).resolve().parents[2]
CLUSTER = ROOT / "configs" / "cluster"
COMMAND = re.compile(r"python -m zorba_ray\.run (.*)")


def pins() -> dict[str, str]:
    """The tested versions."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if "==" in line)


def rayjob() -> tuple[dict[str, Any], dict[str, Any]]:
    claim, job = yaml.safe_load_all((CLUSTER / "rayjob.yaml").read_text())
    return claim, job


def commands() -> list[tuple[str, str]]:
    """Every run that the files tell somebody to start, in keys and in comments: file, arguments."""
    found = [("rayjob.yaml", rayjob()[1]["spec"]["entrypoint"].removeprefix("python -m zorba_ray.run "))]
    for path in sorted(CLUSTER.iterdir()):
        text = re.sub(r"\\\n\s*", "", path.read_text())
        for arguments in COMMAND.findall(text):
            line = arguments.strip().rstrip("`.'").removesuffix("""' run "$@" &""")
            found.append((path.name, line.replace('"$@"', "opt125m_sst2")))
    return found


@pytest.mark.parametrize(("file", "arguments"), commands())
def test_every_command_in_the_files_is_one_that_we_take(
    file: str, arguments: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    words = shlex.split(arguments)
    if "--resume" in words:
        folder = tmp_path / "run"
        folder.mkdir()
        (folder / "config.yaml").write_text("rounds: 7\n")
        words[words.index("--resume") + 1] = str(folder)
    assert main([*words, "--print-config"] if "--version" not in words else words) == 0
    printed = capsys.readouterr().out
    if "--address" in words:
        (tmp_path / "printed.yaml").write_text(printed)
        assert load_config(tmp_path / "printed.yaml", []).runtime.address == "auto"


def test_the_files_tell_of_runs_in_four_ways():
    told = {"rayjob.yaml", "launcher.yaml", "submit.sh", "slurm.sh", "Dockerfile"}
    assert told <= {file for file, _ in commands()}


def test_rays_own_launcher_takes_the_launcher_file():
    config = yaml.safe_load((CLUSTER / "launcher.yaml").read_text())
    assert "available_node_types" not in config
    prepared = prepare_config(config)
    validate_config(prepared)
    node = prepared["available_node_types"][prepared["head_node_type"]]
    assert node["max_workers"] == len(config["provider"]["worker_ips"])
    with pytest.raises(Exception, match="workers_ips"):
        validate_config({**prepared, "workers_ips": []})
    started = " ".join(config["head_start_ray_commands"])
    assert "--head" in started and "--ray-client-server-port=10001" in started


def test_one_version_of_ray_and_of_the_package_everywhere():
    ray, own = pins()["ray"], zorba_ray.__version__
    dockerfile = (CLUSTER / "Dockerfile").read_text()
    job = rayjob()[1]["spec"]["rayClusterSpec"]
    assert f"FROM rayproject/ray:{ray}-py311-gpu" in dockerfile
    assert job["rayVersion"] == ray
    images = re.findall(r"REGISTRY/zorba_ray:(\S+)", (CLUSTER / "rayjob.yaml").read_text() + dockerfile)
    assert images and set(images) == {own}


# The fields of KubeRay's RayJob (ray.io/v1) and of its pods, as far as they are used here: name -> type or fields.
RESOURCES = {"requests": dict, "limits": dict}
POD = {
    "spec": {
        "containers": [{"name": str, "image": str, "resources": RESOURCES}],
    }
}
GROUP = {"rayStartParams": dict, "template": POD}
WORKERS = {**GROUP, "groupName": str, "replicas": int, "minReplicas": int, "maxReplicas": int}
RAYJOB = {
    "apiVersion": str,
    "kind": str,
    "metadata": {"name": str},
    "spec": {
        "entrypoint": str,
        "submissionMode": str,
        "backoffLimit": int,
        "shutdownAfterJobFinishes": bool,
        "ttlSecondsAfterFinished": int,
        "runtimeEnvYAML": str,
        "rayClusterSpec": {
            "rayVersion": str,
            "authOptions": {"mode": str},
            "headGroupSpec": GROUP,
            "workerGroupSpecs": [WORKERS],
        },
    },
}
OPTIONAL = {"securityContext", "volumes", "nodeSelector", "ports", "volumeMounts"}


def check(node: Any, fields: Any, where: str = "RayJob") -> None:
    """Every field that is wanted is there with its type, and no other."""
    if isinstance(fields, list):
        assert isinstance(node, list) and node, where
        for i, each in enumerate(node):
            check(each, fields[0], f"{where}[{i}]")
    elif isinstance(fields, dict):
        assert isinstance(node, dict), where
        assert set(node) - OPTIONAL == set(fields), where
        for name, inner in fields.items():
            check(node[name], inner, f"{where}.{name}")
    else:
        assert type(node) is fields, f"{where}: {node!r}"


def test_the_rayjob_has_the_fields_of_kuberays_resource():
    _, job = rayjob()
    check(job, RAYJOB)
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    spec = job["spec"]
    assert spec["submissionMode"] in ("K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode")
    assert yaml.safe_load(spec["runtimeEnvYAML"])["env_vars"]
    groups = [spec["rayClusterSpec"]["headGroupSpec"], *spec["rayClusterSpec"]["workerGroupSpecs"]]
    for group in groups:
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
        for container in group["template"]["spec"]["containers"]:
            requests, limits = container["resources"]["requests"], container["resources"]["limits"]
            assert requests == limits and {"cpu", "memory"} <= set(limits)


def test_the_rayjobs_driver_can_write_its_folder_and_its_gpus_differ():
    claim, job = rayjob()
    head = job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    (volume,) = head["volumes"]
    assert volume["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    (mount,) = head["containers"][0]["volumeMounts"]
    assert mount["name"] == volume["name"]
    out = re.search(r"out=(\S+)", job["spec"]["entrypoint"])
    assert out and out[1].startswith(mount["mountPath"] + "/")
    workers = job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    assert len({str(group["template"]["spec"]["nodeSelector"]) for group in workers}) == len(workers) > 1
    for group in workers:
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
        assert all("nvidia.com/gpu" in c["resources"]["limits"] for c in group["template"]["spec"]["containers"])


FAKE = """#!/bin/bash
case $(basename "$0") in
    scontrol) printf 'n1\\nn2\\n' ;;
    ray) echo "ray $*" >> "$LOG"; [ "$1" = health-check ] || sleep 1 ;;
    python) case "$*" in
        *secrets*) echo token ;;
        *zorba_ray.run*) sleep 0.5; echo "python $*" >> "$LOG"; exit 3 ;;
        esac ;;
    rm) echo "rm $*" >> "$LOG" ;;
    hostname) echo "10.0.0.1 172.17.0.1" ;;
    srun) while [ "${1#--}" != "$1" ]; do shift; done; "$@" ;;
esac
"""


def slurm(folder: Path, job: int, gpus: str | None) -> list[str]:
    """What a job of two nodes does, where Slurm, Ray and Python are only told of; `gpus`: what Slurm gives to it."""
    tools = folder / f"tools-{job}"
    tools.mkdir()
    for name in ("scontrol", "ray", "python", "rm", "hostname", "srun"):
        (tools / name).write_text(FAKE)
        (tools / name).chmod(0o755)
    log = folder / f"{job}.log"
    own = {"PATH": f"{tools}:/usr/bin:/bin", "LOG": str(log), "SLURM_JOB_ID": str(job), "SLURM_JOB_NODELIST": "n[1-2]",
           "SLURM_JOB_NUM_NODES": "2", "SLURM_CPUS_PER_TASK": "8"}  # fmt: skip
    own |= {} if gpus is None else {"CUDA_VISIBLE_DEVICES": gpus}
    arguments = ["opt125m_sst2", "out=/shared/runs/first"]
    done = subprocess.run(["bash", CLUSTER / "slurm.sh", *arguments], env=own, capture_output=True, text=True)
    assert done.returncode == 3, done.stderr  # the run's own status
    return log.read_text().splitlines()


def test_two_slurm_jobs_on_one_node_share_nothing(tmp_path: Path):
    jobs = {job: slurm(tmp_path, job, gpus) for job, gpus in ((41, "0,1"), (42, "2"), (43, None))}
    taken: list[set[str]] = []
    for (job, lines), gpus in zip(jobs.items(), (2, 1, 0), strict=True):
        starts = [line for line in lines if line.startswith("ray start")]
        assert len(starts) == 2 and all(f"--num-gpus={gpus} " in line and "--num-cpus=8 " in line for line in starts)
        (head,) = [line for line in starts if "--head" in line]
        assert f"--temp-dir=/tmp/ray-{job}" in head and f"rm -rf /tmp/ray-{job}" in lines
        (member,) = [line for line in starts if line is not head]
        assert re.search(r"--address=(\S+)", member)[1] == f"10.0.0.1:{re.search(r'--port=(.*?) ', head)[1]}"  # type: ignore[index]
        taken.append({port for port in re.findall(r"port=(\d+)", " ".join(starts)) if port != "0"})
        assert "python -m zorba_ray.run opt125m_sst2 out=/shared/runs/first --address auto" in lines
    assert all(len(ports) == 3 for ports in taken) and len(set.union(*taken)) == 9


@pytest.mark.parametrize("arguments", [[], ["rounds=3"], ["out=runs/here"], ["--resume", "runs/here"]])
@pytest.mark.parametrize("script", ["submit.sh", "slurm.sh"])
def test_submitting_without_a_place_for_the_run_is_refused(arguments: list[str], script: str):
    refused = subprocess.run(["bash", CLUSTER / script, *arguments], capture_output=True, text=True)
    assert refused.returncode == 2 and refused.stderr.count("\n") == 1 and "out=/" in refused.stderr
