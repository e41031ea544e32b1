"""Encoder files are found by their contents."""

import re

import pytest
import torch
from safetensors.torch import save_file

from hybridbooth_core.encoders import load_encoders
from hybridbooth_core.encoders.catalogue import CATALOGUE, CLIP_L, DINOV2_B, DINOV2_L, DINOV2_S, PROJECTION, TEXT_PROJECTION
from hybridbooth_core.encoders.files import describe, find_encoder, require_encoder
from hybridbooth_core.probe.probe import ProbeConfig


def signature(entry, **more) -> dict[str, torch.Tensor]:
    """The tensors that identify an encoder, and others."""
    return {name: torch.zeros(shape, dtype=torch.float16) for name, shape in entry.signature.items()} | more


def write(path, tensors):
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path)
    return path


def test_the_catalogue_is_pinned():
    assert set(CATALOGUE) == {
        "openai/clip-vit-large-patch14",
        *(f"timm/vit_{s}_patch14_dinov2.lvd142m" for s in ("large", "base", "small")),
    }
    for entry in CATALOGUE.values():
        assert re.fullmatch("[0-9a-f]{40}", entry.revision) and re.fullmatch("[0-9a-f]{64}", entry.sha256)
        assert entry.revision in entry.address and entry.licence
    assert len({entry.saved_as for entry in CATALOGUE.values()}) == len({entry.sha256 for entry in CATALOGUE.values()}) == 4


@pytest.mark.parametrize("entry", CATALOGUE.values(), ids=lambda entry: entry.label)
def test_any_file_name_is_found(entry, tmp_path):
    path = write(tmp_path / "deep" / "er" / "my encoder (1).SAFETENSORS", signature(entry, extra=torch.zeros(1)))
    assert find_encoder(entry, [tmp_path / "nowhere", tmp_path]) == path
    assert all(find_encoder(other, [tmp_path]) is None for other in CATALOGUE.values() if other is not entry)


def test_similar_networks_are_not_confused(tmp_path):
    registers = signature(DINOV2_L) | {"pos_embed": torch.zeros(1, 1369, 1024)}
    larger_images = signature(CLIP_L) | {"vision_model.embeddings.position_embedding.weight": torch.zeros(577, 1024)}
    for name, tensors in {"registers": registers, "336": larger_images, "other": {"emb_params": torch.zeros(5, 768)}}.items():
        write(tmp_path / f"{name}.safetensors", tensors)
    assert all(find_encoder(entry, [tmp_path]) is None for entry in CATALOGUE.values())


def test_unreadable_files_are_skipped(tmp_path):
    (tmp_path / "a.safetensors").write_bytes(b"\x80\x04pickle")
    (tmp_path / "b.safetensors").write_bytes(b"")
    (tmp_path / "c.safetensors").mkdir()
    (tmp_path / "d.safetensors").symlink_to(tmp_path / "gone")
    (tmp_path / "loop").symlink_to(tmp_path, target_is_directory=True)
    write(tmp_path / ".download-x" / "half.safetensors", signature(DINOV2_S))
    assert find_encoder(DINOV2_S, [tmp_path]) is None
    (tmp_path / "pickled.pt").write_bytes(b"\x80\x04")
    assert find_encoder(DINOV2_S, [tmp_path, tmp_path]) is None


def test_a_linked_folder_is_followed(tmp_path):
    path = write(tmp_path / "elsewhere" / "x.safetensors", signature(DINOV2_B))
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "link").symlink_to(path.parent, target_is_directory=True)
    assert find_encoder(DINOV2_B, [tmp_path / "models"]) == tmp_path / "models" / "link" / "x.safetensors"


def test_the_first_folder_with_the_needed_tensors_wins(tmp_path):
    half = write(tmp_path / "a" / "vision.safetensors", signature(CLIP_L))
    whole = write(tmp_path / "b" / "whole.safetensors", signature(CLIP_L, **{PROJECTION: torch.zeros(1), TEXT_PROJECTION: torch.zeros(1)}))
    assert (
        find_encoder(CLIP_L, [tmp_path / "a", tmp_path / "b"]) == half and find_encoder(CLIP_L, [tmp_path / "b", tmp_path / "a"]) == whole
    )
    assert find_encoder(CLIP_L, [tmp_path / "a", tmp_path / "b"], needs=[TEXT_PROJECTION]) == whole


def test_describe_says_what_was_found(tmp_path):
    write(tmp_path / "models" / "half.safetensors", signature(CLIP_L))
    assert describe(CLIP_L, [tmp_path]) == f"CLIP ViT-L/14 ({CLIP_L.licence}): not downloaded, 1.71 GB"
    write(tmp_path / "models" / "whole.safetensors", signature(CLIP_L, **{name: torch.zeros(1) for name in CLIP_L.whole}))
    assert describe(CLIP_L, [tmp_path]).endswith("found: models/whole.safetensors")


def test_a_missing_file_says_how_to_get_it(tmp_path, refuses, monkeypatch):
    message = refuses(require_encoder, DINOV2_L, [tmp_path])
    assert all(
        part in message for part in ("DINOv2 ViT-L/14", str(tmp_path), "Download Encoders", "https://huggingface.co/timm/", "any name")
    )
    monkeypatch.setenv("HF_ENDPOINT", "https://mirror.example")
    assert DINOV2_L.address.startswith("https://mirror.example/timm/")


def config(clip=CLIP_L.id, dino=DINOV2_S.id, widths=(1024, 384)) -> ProbeConfig:
    return ProbeConfig(768, clip, widths[0], dino, widths[1])


def test_missing_and_unknown_encoders_are_named(tmp_path, refuses):
    assert "CLIP ViT-L/14 was not found" in refuses(load_encoders, config(), [tmp_path])
    for wrong in (config(clip="a/b"), config(clip=DINOV2_S.id), config(dino=CLIP_L.id), config(dino="timm/\n" + "x" * 999)):
        assert "update the pack" in refuses(load_encoders, wrong, [tmp_path])


def test_existing_files_load_without_the_network(tmp_path, refuses, monkeypatch):
    """Both kinds at true layout: a wired CLIP, and DINOv2 S from a file."""
    import socket

    timm = pytest.importorskip("timm")
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("the network was used"))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: pytest.fail("the network was used"))
    write(tmp_path / "x.safetensors", timm.create_model("vit_small_patch14_dinov2.lvd142m", num_classes=0).half().state_dict())

    class Wired:
        size, width = 224, 1024

        def __call__(self, images):
            return images

    clip, dino = load_encoders(config(), [tmp_path], clip_vision=Wired())
    assert isinstance(clip, Wired) and dino(torch.rand(1, 224, 224, 3)).shape == (1, 257, 384)
    assert "widths" in refuses(load_encoders, config(widths=(1024, 1024)), [tmp_path], clip_vision=Wired())


def test_the_miniatures_probe_needs_no_folder():
    from hybridbooth_core.bases import load_encoders as load_of_base
    from hybridbooth_core.miniature.bundle import CLIP_ID, DINO_ID

    clip, dino = load_of_base(config(CLIP_ID, DINO_ID, (96, 96)))
    assert (clip.size, clip.width, dino.width) == (64, 96, 96)
