"""The layer surgery lab in JupyterLab, driven by keyboard and mouse as a reader would."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from companion.paths import ROOT
from companion.store import Store

api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install -e '.[dev]'")
pytestmark = [pytest.mark.browser, pytest.mark.slow]
PATIENCE = 180_000  # ms; two cores may be busy


@pytest.fixture
def lab_server(tmp_path) -> Iterator[str]:
    """The address of a JupyterLab over a copy of labs/, with a store of its own."""
    shutil.copytree(ROOT / "labs", tmp_path / "labs")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    surroundings = {**os.environ, "COMPANION_STORE": str(tmp_path / "store"), "JUPYTER_CONFIG_DIR": str(tmp_path / "c")}
    options = [
        "--no-browser",
        "--allow-root",
        f"--port={port}",
        "--IdentityProvider.token=",
        f"--notebook-dir={tmp_path / 'labs'}",
    ]
    command = [sys.executable, "-m", "jupyterlab", *options]
    server = subprocess.Popen(command, env=surroundings, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"{address}/api")
                break
            except urllib.error.URLError:
                time.sleep(0.2)
        yield address
    finally:
        server.terminate()
        server.wait(timeout=30)


def run_all(page) -> None:
    """Run every cell; again, where JupyterLab was not ready for it (it then does nothing, and says nothing)."""
    page.get_by_text("Python 3 (ipykernel) | Idle").wait_for()
    lab = page.get_by_text("Train will run the trial: pocket-cola, 500 examples, seed 0, every layer pretrained.")
    for _ in range(4):
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.locator(".lm-Menu-itemLabel", has_text=re.compile("^Run All Cells$")).click()
        with contextlib.suppress(api.TimeoutError):
            lab.wait_for(timeout=PATIENCE / 4)
            return
    lab.wait_for()


def test_a_trial_is_trained_from_pressed_layers(browser, lab_server, tmp_path):
    page = browser.new_page(viewport={"width": 1400, "height": 1100})
    page.set_default_timeout(PATIENCE)
    page.goto(f"{lab_server}/lab/tree/layer_surgery.ipynb")
    run_all(page)

    page.get_by_role("button", name="layer 12: pretrained").focus()
    page.keyboard.press("Space")
    page.get_by_text("500 examples, seed 0, layer 12 random.").wait_for()
    slider = page.get_by_role("slider").first
    slider.focus()
    for _ in range(3):
        slider.press("ArrowLeft")  # 500, 200, 100, 50 examples
    page.get_by_text("pocket-cola, 50 examples, seed 0, layer 12 random.").wait_for()
    page.locator("button", has_text=re.compile(r"^\s*Train$")).click()
    told = page.get_by_text(re.compile(r"Trial 1: Matthews correlation -?\d\.\d+ \(pocket-cola, 50 examples"))
    told.wait_for()
    page.get_by_role("img", name=re.compile("trial 1, layer 12 random")).wait_for()

    (result,) = Store(tmp_path / "store")
    assert (result.trial.reinitialized, result.trial.train_size) == ((11,), 50)
    assert f"Matthews correlation {result.outcome['score']:.3f}" in told.inner_text()
    page.close()
