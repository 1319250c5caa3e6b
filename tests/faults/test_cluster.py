"""A Ray cluster of two nodes on this machine: one is killed in the middle, and the table is that of a serial sweep."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

import faulty
import pytest
from conftest import some_trial

from companion import cluster, sweep, table
from companion.errors import InvalidValue, WorkersLost
from companion.store import Store

TOKEN = "0123456789abcdef" * 4
OF_THE_RUN = ["seconds", "examples_per_second", "peak_memory_mb", "finished_at"]


@pytest.fixture
def ray(monkeypatch):
    module = pytest.importorskip("ray", reason="Ray is not installed: pip install -e '.[ray]'")
    for name in ("RAY_ADDRESS", "RAY_AUTH_MODE"):
        monkeypatch.setenv(name, "")  # so that what a session sets is put back
        monkeypatch.delenv(name)
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)  # whether or not the user has one
    # What workers on this machine import; on a cluster the package is installed on every node.
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [*sys.path, os.environ.get("PYTHONPATH")])))
    return module


@pytest.fixture
def two_nodes(ray, monkeypatch):
    """A head without cores of its own and two nodes of one core; and a function that kills one of them."""
    from ray.cluster_utils import Cluster

    before = signal.getsignal(signal.SIGTERM)
    there = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        nodes = [there.add_node(num_cpus=1) for _ in range(2)]
        monkeypatch.setenv("RAY_ADDRESS", there.address)
        yield there.address, lambda: there.remove_node(nodes[0], allow_graceful=False)
    finally:
        with contextlib.suppress(Exception):  # a test that failed may have left it half there
            ray.shutdown()
        there.shutdown()
        signal.signal(signal.SIGTERM, before)  # Ray leaves a handler of its own behind


def tidy(store: Store):
    rows = table.tidy(list(store), experiment="progressive", profile="tiny")
    return rows.drop(columns=OF_THE_RUN).sort_values("trial_id", ignore_index=True)


@pytest.mark.slow
def test_a_node_killed_in_the_middle_costs_no_trial(two_nodes, tmp_path, plan_trial, tiny_glue, monkeypatch):
    _, kill = two_nodes
    monkeypatch.setattr(sweep, "work", faulty.slow)
    trials, store = [plan_trial(seed=s) for s in range(12)], Store(tmp_path / "store")
    killed_at = []

    def kill_in_the_middle():
        while len(list(store.folder.glob("[0-9a-f][0-9a-f]/*.json"))) < 2:
            time.sleep(0.02)
        kill()
        killed_at.append(len(list(store.folder.glob("[0-9a-f][0-9a-f]/*.json"))))

    killer = threading.Thread(target=kill_in_the_middle, daemon=True)
    killer.start()
    report = sweep.run(trials, store, data_dir=tiny_glue, executor="ray", progress=False)
    killer.join(timeout=60)
    assert killed_at
    assert killed_at[0] < len(trials), "the node was killed when all was done"
    assert (report.ran, report.reused, report.failed) == (12, 0, 0)
    assert not list((store.folder / "failed").glob("*"))
    monkeypatch.setattr(sweep, "work", faulty.really)
    serial = Store(tmp_path / "serial")
    sweep.run(trials, serial, data_dir=tiny_glue, executor="local", progress=False)
    assert tidy(store).equals(tidy(serial))


@pytest.mark.slow
def test_a_cluster_of_this_machine_and_trials_that_fail_on_it(ray, tmp_path, monkeypatch):
    monkeypatch.setattr(sweep, "work", faulty.instant)
    good, bad = [some_trial(seed=s) for s in range(4)], some_trial(seed=faulty.RAISES)
    dies, hangs = some_trial(seed=faulty.IS_KILLED), some_trial(seed=faulty.HANGS)
    store = Store(tmp_path / "store")
    with pytest.warns(sweep.TrialsFailed, match="3 of 7 trials failed 3 times"):
        report = sweep.run([bad, dies, hangs, *good], store, executor="ray", time_limit=4, progress=False)
    assert (report.ran, report.failed) == (4, 3)
    assert store.failure(bad)["cause"] == "RuntimeError: a bug of two lines"
    assert store.failure(dies)["cause"].startswith("its worker or node was lost")
    assert store.failure(hangs)["cause"] == "it took longer than the time limit of 4 seconds"
    assert not ray.is_initialized()


@pytest.mark.slow
def test_a_sweep_that_is_stopped_leaves_nothing_running_in_a_cluster_that_was_there(two_nodes, ray):
    ray.init(include_dashboard=False, log_to_driver=False, logging_level="ERROR")

    class Stopped:
        groups = ([some_trial(seed=faulty.HANGS)],)

        def __bool__(self):
            if not self.groups and free_cores() == 1:  # the trial has begun
                raise KeyboardInterrupt
            return True

        def take(self):
            (group, *_), self.groups = self.groups or (None,), ()
            return group

    def free_cores():
        return int(ray.available_resources().get("CPU", 0))

    with pytest.raises(KeyboardInterrupt):
        list(cluster.on_ray(Stopped(), functools.partial(faulty.instant, data_dir=None), 1, 600.0))
    late = time.monotonic() + 60
    while free_cores() < 2 and time.monotonic() < late:
        time.sleep(0.2)
    assert free_cores() == 2
    assert ray.is_initialized()


JOIN = """
from companion import cluster, errors
try:
    with cluster._session() as ray:
        print("cores:", ray.cluster_resources()["CPU"])
except errors.CompanionError as error:
    print(error)
"""


@pytest.mark.slow
def test_a_head_started_as_the_page_says_is_joined_with_its_token_alone(ray, tmp_path):
    """The sweep asks for authentication by itself: Ray would not, for a cluster that it did not start."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    known = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")} | {"HOME": str(tmp_path)}

    def joined(**more: str) -> str:
        environment = {**known, "RAY_ADDRESS": f"127.0.0.1:{port}", **more}
        return subprocess.run(
            [sys.executable, "-c", JOIN], env=environment, capture_output=True, text=True, timeout=120
        ).stdout

    start = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", f"--port={port}", "--num-cpus=1"]
    start += ["--include-dashboard=false", f"--temp-dir={tempfile.mkdtemp(prefix='ray')}", "--block"]
    secured = {**known, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN}
    head = subprocess.Popen(start, env=secured, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(60):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            time.sleep(1)
        assert joined(RAY_AUTH_TOKEN=TOKEN) == "cores: 1.0\n"
        assert "no authentication token was found" in joined()
    finally:
        head.terminate()
        head.wait(timeout=60)


# --- mistakes, without a cluster -------------------------------------------------------------------------------------


def test_authentication_is_not_to_be_switched_off(ray, tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with pytest.raises(InvalidValue, match="switches Ray's token authentication off.*; unset it"):
        sweep.run([some_trial()], Store(tmp_path / "store"), executor="ray", progress=False)


def test_a_cluster_that_is_not_there(tmp_path, monkeypatch):
    class NoCluster:
        @staticmethod
        def is_initialized():
            return False

        @staticmethod
        def init(**_):
            raise ConnectionError("Could not find any running Ray instance at 192.0.2.1\nand more")

    monkeypatch.setitem(sys.modules, "ray", NoCluster)
    with pytest.raises(WorkersLost, match="no Ray cluster could be reached or started .*192.0.2.1.*; check"):
        sweep.run([some_trial()], Store(tmp_path / "store"), executor="ray", progress=False)


def test_without_ray_the_remedy_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InvalidValue, match=r"needs Ray, which is not installed; install the extra \[ray\]"):
        sweep.run([some_trial()], Store(tmp_path / "store"), executor="ray", progress=False)


@pytest.mark.parametrize("share", ["0", "1.5", "half", "nan", "-1"])
def test_a_part_of_a_gpu_is_a_number_up_to_one(share, monkeypatch):
    monkeypatch.setenv("COMPANION_GPU_SHARE", share)
    with pytest.raises(InvalidValue, match=f"COMPANION_GPU_SHARE is '{share}'; give a number above 0 and up to 1"):
        cluster.gpu_share()


@pytest.mark.parametrize(
    ("resources", "share", "most"),
    [({"CPU": 8.0}, 1.0, 8), ({"CPU": 8.0, "GPU": 2.0}, 1.0, 2), ({"CPU": 8.0, "GPU": 2.0}, 0.25, 8), ({}, 1.0, 1)],
)
def test_as_many_tasks_as_cores_or_shares_of_gpus(resources, share, most):
    class Ray:
        cluster_resources = staticmethod(lambda: resources)

    assert cluster._slots(Ray, share) == most
