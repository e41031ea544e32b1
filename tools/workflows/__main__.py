"""`python -m tools.workflows [FOLDER] [--thumbnails]`: write the example workflows (default: workflows/) and their thumbnails."""

import sys
from pathlib import Path

from . import miniature, probes, sd15
from .canvas import as_text

BUILDERS = (
    miniature.quickstart,
    sd15.one_photo,
    sd15.two_subjects,
    sd15.several_references,
    sd15.controlnet,
    sd15.load_subject,
    probes.one_photo,
    probes.step_by_step,
    miniature.hyperdreambooth,
    miniature.instantbooth,
)

if __name__ == "__main__":
    folders = [Path(argument) for argument in sys.argv[1:] if not argument.startswith("-")]
    folder = folders[0] if folders else Path(__file__).parents[2] / "workflows"
    for build in BUILDERS:
        canvas = build()
        (folder / f"{canvas.name}.json").write_text(as_text(canvas.workflow()), encoding="utf-8")
    if "--thumbnails" in sys.argv:
        from .thumbnails import write

        write(folder)
