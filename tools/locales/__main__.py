"""`python -m tools.locales [FILE]`: write the English texts of the nodes' schemas (default: to locales/en/nodeDefs.json).

Needs a ComfyUI checkout: $COMFYUI_PATH (default: ~/comfy/ComfyUI), run by $COMFYUI_PYTHON (default: its own .venv, else this Python).
"""

import os
import subprocess
import sys
from pathlib import Path

SCHEMAS = Path(__file__).with_name("schemas.py")
TARGET = Path(__file__).parents[2] / "locales" / "en" / "nodeDefs.json"


def texts(comfyui: Path, python: Path | str) -> bytes:
    """The content of the English file, read from the schemas inside a ComfyUI checkout."""
    return subprocess.run([str(python), str(SCHEMAS)], cwd=comfyui, stdout=subprocess.PIPE, check=True).stdout


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else TARGET
    comfyui = Path(os.environ.get("COMFYUI_PATH") or Path.home() / "comfy" / "ComfyUI")
    if not (comfyui / "comfy_api").is_dir():
        sys.exit(f"expected a ComfyUI checkout in {comfyui}, found none; set COMFYUI_PATH")
    own = comfyui / ".venv" / "bin" / "python"
    target.write_bytes(texts(comfyui, os.environ.get("COMFYUI_PYTHON") or (own if own.exists() else sys.executable)))
    print(f"wrote {target}")
