"""A canvas to lay nodes on: it writes the workflow file that ComfyUI's browser page opens.

Positions are pixels, x to the right and y down; a node's title lies above its position. Nodes are put into columns from top to bottom, so
they cannot overlap; links may run along rails, so they need not cross nodes.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from hybridbooth_core import __version__

from .kinds import KINDS
from .models import model_files

TITLE, BADGE, GAP, PADDING = 30, 24, 34, 22  # heights of a node's title and of the badge above it; free space between nodes, and in a group
HEADING = 40  # of a group
NOTE = {"color": "#432", "bgcolor": "#653"}
OLDEST_HOST = "0.8.0"  # whose stock nodes the workflows use
WINDOW = (1310, 770)  # free of the page's own bars in a window of 1400 x 900
READABLE, LARGEST = 0.6, 0.85  # scales: below the first, the page hides the texts of nodes

Point = tuple[float, float]


@dataclass(frozen=True)
class Slot:
    """An output of a node, and the points that a link from it runs through."""

    node: int
    index: int
    kind: str
    path: tuple[Point, ...] = ()

    def via(self, *points: Point) -> Slot:
        """The same output, its links laid along these points; links with the same first points share them."""
        return replace(self, path=points)


@dataclass
class Node:
    """A node that was put on a canvas; `node["MODEL"]` is an output."""

    id: int
    type: str
    pos: Point
    size: tuple[float, float]
    data: dict[str, Any]

    def __getitem__(self, name: str) -> Slot:
        outputs = KINDS[self.type].outputs
        return Slot(self.id, list(outputs).index(name), outputs[name])


@dataclass
class Column:
    """Nodes one below the other."""

    canvas: Canvas
    x: float
    width: float
    y: float = 0
    nodes: list[Node] = field(default_factory=list)

    def put(self, kind: str, title: str = "", tall: float = 0, **inputs: Any) -> Node:
        """The next node downwards, `tall` pixels high (0: as its kind is).

        `inputs`: outputs of other nodes, or values of widgets that differ from the kind's own. A socket that grows takes a
        list: images=[a, b] are the host's images.image0 and images.image1.
        """
        node = self.canvas.put(kind, (self.x, self.y), (self.width, tall or KINDS[kind].height), title, inputs)
        self.y += node.size[1] + GAP + TITLE
        self.nodes.append(node)
        return node

    def note(self, text: str, tall: float, title: str = "Note") -> Node:
        return self.put("MarkdownNote", title, tall, text=readable(text))


class Canvas:
    def __init__(self, name: str):
        self.name = name
        self.nodes: list[Node] = []
        self.links: list[tuple[Slot, int, int]] = []
        self.groups: list[dict[str, Any]] = []

    def column(self, x: float, width: float, y: float = 0) -> Column:
        return Column(self, x, width, y)

    def put(self, kind: str, pos: Point, size: tuple[float, float], title: str, inputs: dict[str, Any]) -> Node:
        described, number = KINDS[kind], len(self.nodes) + 1
        for name in [name for name, value in inputs.items() if isinstance(value, list)]:
            inputs |= {f"{name}.{name[:-1]}{index}": slot for index, slot in enumerate(inputs.pop(name))}
        unknown = set(inputs) - set(described.inputs) - set(described.widgets)
        if unknown:
            raise ValueError(f"{kind} has no input {', '.join(sorted(unknown))}")
        entries, values = [], dict(described.widgets)
        for name in [*described.inputs, *described.widgets]:
            given = inputs.get(name)
            label = {"label": name.partition(".")[2]} if "." in name else {}  # of a list that grows
            if isinstance(given, Slot):
                if name in described.inputs and described.inputs[name] not in (given.kind, "*"):
                    raise ValueError(f"{kind} takes {described.inputs[name]} as {name}, not {given.kind}")
                self.links.append((given, number, len(entries)))
                widget = {"widget": {"name": name}} if name in described.widgets else {}
                entries.append({"name": name, "type": described.inputs.get(name, given.kind), **label, **widget, "link": len(self.links)})
            elif name in described.inputs:
                entries.append({"name": name, "type": described.inputs[name], **label, "link": None})
            elif given is not None:
                values[name] = given
        data = {
            "flags": {}, "order": number - 1, "mode": 0, "inputs": entries,
            "outputs": [{"name": name, "type": kind, "links": []} for name, kind in described.outputs.items()],
            "properties": {} if kind == "MarkdownNote" else properties(kind, list(values.values())),
            "widgets_values": list(values.values()),
        }  # fmt: skip
        node = Node(number, kind, pos, size, data | ({"title": title} if title else {}) | (NOTE if kind == "MarkdownNote" else {}))
        self.nodes.append(node)
        return node

    def group(self, title: str, colour: str, *columns: Column) -> None:
        """A frame around all nodes of these columns."""
        nodes = [node for column in columns for node in column.nodes]
        left, top = min(n.pos[0] for n in nodes) - PADDING, min(n.pos[1] for n in nodes) - TITLE - BADGE - HEADING
        right = max(n.pos[0] + n.size[0] for n in nodes) + PADDING
        bottom = max(n.pos[1] + n.size[1] for n in nodes) + PADDING
        bounding = [left, top, right - left, bottom - top]
        self.groups.append(
            {"id": len(self.groups) + 1, "title": title, "bounding": bounding, "color": colour, "font_size": 24, "flags": {}}
        )

    def workflow(self) -> dict[str, Any]:
        """What the browser page saves."""
        links, extensions, rails = [], [], Rails()
        by_id = {node.id: node for node in self.nodes}
        for number, (slot, target, entry) in enumerate(self.links, 1):
            by_id[slot.node].data["outputs"][slot.index]["links"].append(number)
            links.append([number, slot.node, slot.index, target, entry, slot.kind])
            if slot.path:
                extensions.append({"id": number, "parentId": rails.lay(slot, number)})
        nodes = [{"id": n.id, "type": n.type, "pos": list(n.pos), "size": list(n.size), **n.data} for n in self.nodes]
        return {
            "id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"hybridbooth/{self.name}")), "revision": 0,
            "last_node_id": len(nodes), "last_link_id": len(links),
            "nodes": nodes, "links": links, "groups": self.groups, "config": {},
            "extra": {"ds": self._view(), "reroutes": rails.points, "linkExtensions": extensions}, "version": 0.4,
        }  # fmt: skip

    def _view(self) -> dict[str, Any]:
        """Scale and offset at which the page first shows the canvas: the whole of it, or its upper left part if that would be too small."""
        boxes = [(n.pos[0], n.pos[1] - TITLE, n.pos[0] + n.size[0], n.pos[1] + n.size[1]) for n in self.nodes]
        boxes += [(x, y, x + width, y + height) for x, y, width, height in (group["bounding"] for group in self.groups)]
        left, top = (min(box[axis] for box in boxes) for axis in (0, 1))
        right, bottom = (max(box[axis] for box in boxes) for axis in (2, 3))
        scale = round(min(LARGEST, max(READABLE, min(WINDOW[0] / (right - left), WINDOW[1] / (bottom - top)))), 3)
        return {"scale": scale, "offset": [round(75 / scale - left, 1), round(112 / scale - top, 1)]}


def readable(text: str) -> str:
    """Markdown that both designs of the page show: `code` is blue on blue in one of them, and <subject> would be taken for HTML."""
    return re.sub(r"`([^`]+)`", r"**\1**", text).replace("<", "&lt;").replace(">", "&gt;")


def properties(kind: str, values: list[Any]) -> dict[str, Any]:
    """What lets the page find a missing node's pack and a missing model's file."""
    ours = kind.startswith("HybridBooth_")
    pack = {"cnr_id": "hybridbooth", "ver": __version__} if ours else {"cnr_id": "comfy-core", "ver": OLDEST_HOST}
    models = model_files(values)
    return {**pack, "Node name for S&R": kind, **({"models": models} if models else {})}


class Rails:
    """Points that links run through; where links from one output share their first points, they share the rail."""

    def __init__(self):
        self.points: list[dict[str, Any]] = []
        self._known: dict[tuple, dict[str, Any]] = {}

    def lay(self, slot: Slot, link: int) -> int:
        """Lay a link along its slot's path and return the id of the last point."""
        parent = None
        for end in range(1, len(slot.path) + 1):
            key = (slot.node, slot.index, slot.path[:end])
            point = self._known.get(key)
            if point is None:
                point = {"id": len(self.points) + 1, "pos": list(slot.path[end - 1]), "linkIds": []}
                if parent is not None:
                    point["parentId"] = parent
                self._known[key] = point
                self.points.append(point)
            point["linkIds"].append(link)
            parent = point["id"]
        assert parent is not None
        return parent


def as_text(workflow: dict[str, Any]) -> str:
    """The file: JSON with a line for each node, link and group, so that changes can be read."""

    def lines(values: Iterable[Any]) -> str:
        return "[\n" + ",\n".join(f"  {json.dumps(value, ensure_ascii=False)}" for value in values) + "\n]"

    parts = [
        f'"{key}": {lines(value) if key in ("nodes", "links", "groups") else json.dumps(value, ensure_ascii=False)}'
        for key, value in workflow.items()
    ]
    return "{\n" + ",\n".join(parts) + "\n}\n"
