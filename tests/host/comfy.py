"""Finding, starting, asking and stopping a ComfyUI."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load
from torch import Tensor

from .listener import Listener

START_SECONDS, RUN_SECONDS = 240, 240


@dataclass(frozen=True)
class Installation:
    path: Path
    python: Path

    def run(self, script: Path, *arguments: str, timeout: float = RUN_SECONDS) -> str:
        """Run a script in the host's own Python and folder, and return what it printed; it fails with the script's own output."""
        command = [str(self.python), str(script), *arguments]
        done = subprocess.run(command, cwd=self.path, env=_environment(), capture_output=True, text=True, timeout=timeout)
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return done.stdout

    def has(self, module: str) -> bool:
        """Whether the host's Python has a module."""
        script = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({module!r}) is None)"
        return subprocess.run([str(self.python), "-c", script]).returncode == 0


def find_installations() -> list[Installation]:
    """The hosts on this machine: none, the main one, or that and the oldest supported."""
    main = Path(os.environ.get("COMFYUI_PATH") or Path.home() / "comfy" / "ComfyUI")
    found = []
    for path in (main, main.with_name(f"{main.name}-0.8.0")):
        pythons = [os.environ.get("COMFYUI_PYTHON"), path / ".venv" / "bin" / "python", main / ".venv" / "bin" / "python"]
        python = next((Path(p) for p in pythons if p and Path(p).exists()), None)
        if (path / "main.py").exists() and python is not None:
            found.append(Installation(path, python))
    return found


def _environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


class Host:
    """One running ComfyUI with its base folder `base`."""

    def __init__(self, installation: Installation, base: Path, pack: Path):
        self.installation, self.base = installation, base
        for folder in ("custom_nodes", "user", "models/embeddings"):
            (base / folder).mkdir(parents=True)
        (base / "custom_nodes" / "hybridbooth").symlink_to(pack, target_is_directory=True)
        self.embeddings, self.more_probes = base / "models" / "embeddings", base / "more" / "probes"
        self.more_probes.mkdir(parents=True)
        (base / "more.yaml").write_text(f"more:\n  base_path: {base / 'more'}\n  hybridbooth: probes\n")
        self.log = base / "log.txt"
        self.process: subprocess.Popen | None = None
        self.client = uuid.uuid4().hex
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{free.getsockname()[1]}"

    def start(self) -> None:
        """Start it and wait until it answers."""
        host, port = self.address.split(":")
        database = f"sqlite:///{self.base / 'user' / 'comfyui.db'}"
        command = [str(self.installation.python), "main.py", "--cpu", "--listen", host, "--port", port, "--disable-auto-launch",
                   "--base-directory", str(self.base), "--database-url", database,
                   "--extra-model-paths-config", str(self.base / "more.yaml")]  # fmt: skip
        with self.log.open("w") as log:
            self.process = subprocess.Popen(command, cwd=self.installation.path, env=_environment(), stdout=log, stderr=log)
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.log.read_text()
            try:
                self.get("/system_stats")
                return
            except (urllib.error.URLError, OSError):
                time.sleep(0.3)
        raise AssertionError(f"ComfyUI did not answer within {START_SECONDS} s:\n{self.log.read_text()}")

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def fetch(self, path: str, body: Any = None) -> bytes:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://{self.address}{path}", data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.read()

    def get(self, path: str) -> Any:
        return json.loads(self.fetch(path))

    def submit(self, graph: dict[str, Any], extra: dict[str, Any] | None = None) -> str:
        """Queue a graph in API form, with what the browser sends beside it; its id. AssertionError if it is refused."""
        try:
            answer = json.loads(self.fetch("/prompt", {"prompt": graph, "client_id": self.client, "extra_data": extra or {}}))
        except urllib.error.HTTPError as error:
            raise AssertionError(f"the host refused the graph: {error.read().decode()}") from error
        return answer["prompt_id"]

    def wait(self, prompt_id: str) -> dict[str, Any]:
        """The history of a queued graph, once it is over."""
        deadline = time.monotonic() + RUN_SECONDS
        while time.monotonic() < deadline:
            history = self.get(f"/history/{prompt_id}")
            if prompt_id in history and history[prompt_id]["status"].get("status_str"):
                return history[prompt_id]
            time.sleep(0.05)
        raise AssertionError(f"the graph was not done within {RUN_SECONDS} s:\n{self.log.read_text()[-4000:]}")

    def run(self, graph: dict[str, Any]) -> dict[str, Any]:
        """Run a graph that must succeed; its outputs by node."""
        history = self.wait(self.submit(graph))
        assert history["status"]["status_str"] == "success", history["status"]["messages"]
        return history["outputs"]

    def error(self, graph: dict[str, Any]) -> str:
        """Run a graph that must fail while it runs; the sentence that the person sees."""
        history = self.wait(self.submit(graph))
        assert history["status"]["status_str"] == "error", history["status"]
        return next(body["exception_message"] for kind, body in history["status"]["messages"] if kind == "execution_error").strip()

    def refused(self, graph: dict[str, Any]) -> str:
        """Queue a graph of which something must be refused before any work; the sentences that the user sees on the nodes."""
        try:
            answer = json.loads(self.fetch("/prompt", {"prompt": graph, "client_id": self.client}))
        except urllib.error.HTTPError as error:
            answer = json.loads(error.read())
        if "prompt_id" in answer:  # the rest of the graph runs
            self.wait(answer["prompt_id"])
        assert answer["node_errors"], "the host took the whole graph"
        return "\n".join(found["details"] for node in answer["node_errors"].values() for found in node["errors"])

    def file(self, output: dict[str, Any]) -> bytes:
        """A file that a run wrote: an entry of its outputs' `images` or `latents`."""
        query = urllib.parse.urlencode({key: output[key] for key in ("filename", "subfolder", "type")})
        return self.fetch(f"/view?{query}")

    def listening(self) -> Listener:
        """While open, what the host sends to the browser whose prompts this class queues."""
        return Listener(self.address, self.client)

    def latents(self, outputs: dict[str, Any], key: str = "") -> Tensor:
        """The latents that the node "latents" + key of a run saved."""
        return load(self.file(outputs[f"latents{key}"]["latents"][0]))["latent_tensor"]
