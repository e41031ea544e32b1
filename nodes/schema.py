"""What all node files share: the sockets of the pack, and schemas that older hosts take too."""
# pyright: reportMissingImports=false

from __future__ import annotations

import dataclasses
from typing import Any

from comfy_api.latest import io

ProbeSocket = io.Custom("HB_PROBE")
FeaturesSocket = io.Custom("HB_FEATURES")
SubjectSocket = io.Custom("HB_SUBJECT")


def schema(name: str, **keywords: Any) -> io.Schema:
    """The schema of node `HybridBooth_<name>`, without the keywords that this host's version does not have."""
    known = {field.name for field in dataclasses.fields(io.Schema)}
    kept = {key: value for key, value in keywords.items() if key in known}
    return io.Schema(node_id=f"HybridBooth_{name}", category="HybridBooth", **kept)
