"""The node that downloads the image encoders of probes."""
# pyright: reportMissingImports=false

from __future__ import annotations

from comfy_api.latest import io, ui

from ..hybridbooth_core.encoders.catalogue import CATALOGUE
from ..hybridbooth_core.encoders.download import download_encoder
from ..hybridbooth_core.encoders.files import describe, find_encoder
from .host.vision import download_folder, download_progress, encoder_folders
from .schema import PROBE, ComfyNode, Schema

BY_LABEL = {entry.label: entry for entry in CATALOGUE.values()}


class DownloadEncoders(ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="HybridBooth_DownloadEncoders",
            category=PROBE,
            display_name="Download Encoders",
            description=(
                "Downloads an image encoder into models/hybridbooth and checks its hash. Probes need CLIP ViT-L/14 (1.71 GB) and a DINOv2; "
                "without a probe, CLIP lets Personalize Subject start nearer to the photo, which gains little. A stopped download goes on "
                "where it stopped. Encoders you already have are kept. No other node of this pack uses the network."
            ),
            search_aliases=["hybridbooth", "download", "clip vision", "dinov2"],
            is_output_node=True,
            inputs=[
                io.Combo.Input(
                    "which",
                    options=list(BY_LABEL),
                    default=next(iter(BY_LABEL)),
                    tooltip="Sizes in this order: 1.71, 1.22, 0.35 and 0.09 GB. A probe's 'about' names the encoders it needs.",
                )
            ],
            outputs=[io.String.Output(display_name="report", tooltip="Which encoders were found, where, and which are missing.")],
        )

    @classmethod
    def fingerprint_inputs(cls, which: str) -> str:
        return str(find_encoder(BY_LABEL[which], encoder_folders(), BY_LABEL[which].whole))

    @classmethod
    def execute(cls, which: str) -> io.NodeOutput:
        entry, folders = BY_LABEL[which], encoder_folders()
        if find_encoder(entry, folders, entry.whole) is None:
            download_encoder(entry, download_folder(), download_progress(entry.size))
        report = "\n".join(describe(entry, folders) for entry in CATALOGUE.values())
        return io.NodeOutput(report, ui=ui.PreviewText(report))
