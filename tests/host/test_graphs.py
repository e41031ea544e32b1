"""The converter of workflows that the tests of the quickstart stand on."""

from __future__ import annotations

from .graphs import to_api

INFO = {
    "Source": {"input": {"required": {}}},
    "Work": {
        "input": {
            "required": {
                "image": ["IMAGE", {}],
                "seed": ["INT", {"control_after_generate": True}],
                "mode": [["a", "b"], {}],
                "name": ["STRING", {}],
            },
            "optional": {"mask": ["MASK", {}], "size": ["FLOAT", {}]},
        }
    },
}


def test_widgets_links_and_notes():
    link = {"name": "image", "type": "IMAGE", "link": 7}
    wired_widget = {"name": "name", "type": "STRING", "widget": {"name": "name"}, "link": 8}
    workflow = {
        "nodes": [
            {"id": 1, "type": "Source", "inputs": []},
            {"id": 2, "type": "Work", "inputs": [link, wired_widget], "widgets_values": [5, "fixed", "b", "ignored", 0.5], "title": "T"},
            {"id": 3, "type": "MarkdownNote", "inputs": [], "widgets_values": ["read me"]},
        ],
        "links": [[7, 1, 0, 2, 0, "IMAGE"], [8, 1, 1, 2, 1, "STRING"]],
    }
    assert to_api(workflow, INFO) == {
        "1": {"class_type": "Source", "inputs": {}, "_meta": {"title": "Source"}},
        "2": {
            "class_type": "Work",
            "inputs": {"image": ["1", 0], "seed": 5, "mode": "b", "name": ["1", 1], "size": 0.5},
            "_meta": {"title": "T"},
        },
    }
