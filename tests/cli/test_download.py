"""`hybridbooth download-encoders`: where it puts what it fetches; the fetching itself is tested in tests/encoders."""

from __future__ import annotations

import pytest

from hybridbooth_core.cli import main
from hybridbooth_core.encoders import download
from hybridbooth_core.encoders.catalogue import CLIP_L, DINOV2_S


@pytest.mark.parametrize(("name", "entry"), [("clip", CLIP_L), ("dinov2-S", DINOV2_S)])
def test_the_file_goes_where_it_is_looked_for(name, entry, tmp_path, monkeypatch, capsys):
    asked = []

    def fetch(wanted, folder, progress):
        progress(wanted.size, wanted.size)
        asked.append((wanted, folder))
        return folder / wanted.saved_as

    monkeypatch.setattr(download, "download_encoder", fetch)
    (tmp_path / "ComfyUI" / "models").mkdir(parents=True)
    assert main(["download-encoders", name, "--to", str(tmp_path / "here")]) == 0
    assert main(["download-encoders", name, "--comfyui", str(tmp_path / "ComfyUI")]) == 0
    assert asked == [(entry, tmp_path / "here"), (entry, tmp_path / "ComfyUI" / "models" / "hybridbooth")]
    assert entry.licence in capsys.readouterr().out


def test_a_folder_that_is_no_comfyui(tmp_path, capsys):
    assert main(["download-encoders", "clip", "--comfyui", str(tmp_path)]) == 2
    assert "main.py" in capsys.readouterr().err
