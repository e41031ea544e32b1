"""What can be known to go wrong with subjects in prompts when a graph is queued, before anything runs.

Graphs are in the form of POST /prompt: {id: {"class_type": ..., "inputs": {name: value or [id, output]}}}. Where a text or a name comes
from another node nothing is claimed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..hybridbooth_core.models.prompts import find_name, tags

Graph = Mapping[str, Mapping[str, Any]]
OutputType = Callable[[str, int], str]
"""The type of an output of a class of nodes, such as "CLIP"; "" if it is unknown."""

NAMING = {"HybridBooth_InjectSubjectTokens": 0, "HybridBooth_PersonalizeSubject": 1, "HybridBooth_TrainSubject": 2}
"""Nodes that give a subject its name in prompts, and which of their widgets the name is."""
NAMED = {*NAMING, "HybridBooth_SaveSubject"}
BYPASSED, MUTED = 4, 2  # modes of a node in the browser's workflow


@dataclass
class KnownNames:
    """What a CLIP knows: the names given on its way, the nodes that give them, and whether some name cannot be known."""

    names: dict[str, str] = field(default_factory=dict)
    unknown: bool = False


def without_odd_names(graph: dict[str, Any]) -> None:
    """Replaces names that are no text (JSON's null, numbers, booleans) by "", which is refused; ComfyUI would make texts of them."""
    for node in graph.values():
        inputs = node.get("inputs", {}) if isinstance(node, dict) else {}
        if isinstance(inputs, dict) and node.get("class_type") in NAMED and not isinstance(inputs.get("name", ""), str | list):
            inputs["name"] = ""


def warnings(graph: Graph, output_type: OutputType, workflow: Mapping[str, Any] | None = None) -> list[tuple[str, str]]:
    """(node id, sentence) for each prompt or name that will not do what it seems to.

    Args:
        workflow: the browser's own form of the graph, which still holds bypassed and muted nodes.
    """
    found: list[tuple[str, str]] = []
    inactive = dict(_inactive(workflow or {}))
    named = {key for key in graph if graph[key].get("class_type") in NAMING}
    if not named and not inactive:
        return found
    used: dict[str, set[str]] = {key: set() for key in named}
    unclear: set[str] = set()
    reached: set[str] = set()
    for key, node in graph.items():
        for clip in _clips(node, graph, output_type):
            given = _known_names(graph, clip, output_type)
            if key in named or _passes_on(node, output_type):
                continue
            reached |= set(given.names.values())
            texts = _texts(node)
            if texts is None or "CONDITIONING" not in _outputs(node, output_type):
                unclear |= set(given.names.values())
                continue
            for name in dict.fromkeys(tag.name for text in texts for tag in tags(text)):
                match = find_name(name, given.names)
                if match is not None:
                    used[given.names[match]].add(name)
                elif not given.names and not given.unknown:
                    found += _unpatched(key, name, graph, named, inactive)
    found += [
        (key, f"no prompt names {_bracketed(graph[key])}; write it where the subject should appear")
        for key in sorted(reached - unclear)
        if not used[key] and isinstance(_name(graph[key]), str)
    ]
    return list(dict.fromkeys(found + list(_twice(graph, named, output_type))))


def _unpatched(key: str, name: str, graph: Graph, named: set[str], inactive: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """A prompt that names a subject, encoded by a CLIP that knows none."""
    match = find_name(name, inactive)
    if match is not None:
        yield key, f"the prompt names <{name}>, but the node that knows it is {inactive[match]}, so <{name}> is read as plain text"
    elif find_name(name, [given for given in (_name(graph[other]) for other in named) if isinstance(given, str)]) is not None:
        advice = "connect the CLIP of the node that gives the name"
        yield key, f"the prompt names <{name}>, but its CLIP does not know it, so it is read as plain text; {advice}"


def _twice(graph: Graph, named: set[str], output_type: OutputType) -> Iterator[tuple[str, str]]:
    for key in sorted(named):
        name = _name(graph[key])
        for clip in _clips(graph[key], graph, output_type):
            before = _known_names(graph, clip, output_type).names
            if isinstance(name, str) and find_name(name, before) is not None:
                yield key, f"two nodes of this chain give a subject the name <{name}>; the later one counts, so rename one of them"


def _known_names(graph: Graph, link: list[Any], output_type: OutputType) -> KnownNames:
    """What the CLIP at a link knows."""
    found, waiting, seen = KnownNames(), [link], set()
    while waiting:
        key = str(waiting.pop()[0])
        if key in seen or key not in graph:
            continue
        seen.add(key)
        node = graph[key]
        if node.get("class_type") in NAMING:
            name = _name(node)
            if not isinstance(name, str):
                found.unknown = True
            elif find_name(name.strip(), found.names) is None:  # the one nearest to the prompt counts
                found.names[name.strip()] = key
        waiting += _clips(node, graph, output_type)
    return found


def _clips(node: Mapping[str, Any], graph: Graph, output_type: OutputType) -> list[list[Any]]:
    """The links of a node that bring a CLIP."""
    return [link for link in _links(node) if _type(link, graph, output_type) == "CLIP"]


def _type(link: list[Any], graph: Graph, output_type: OutputType) -> str:
    """The type that a link carries; behind a node for anything (a reroute) that of the link it passes on."""
    for _ in range(len(graph)):
        node = graph.get(str(link[0]))
        if node is None:
            return ""
        kind = output_type(node.get("class_type", ""), link[1])
        if kind != "*":
            return kind
        passed = _links(node)
        if len(passed) != 1:
            return ""
        link = passed[0]
    return ""


def _passes_on(node: Mapping[str, Any], output_type: OutputType) -> bool:
    """Whether a node hands a CLIP on: a loader of LoRAs, a clip skip, a reroute."""
    return bool({"CLIP", "*"} & _outputs(node, output_type))


def _outputs(node: Mapping[str, Any], output_type: OutputType) -> set[str]:
    kinds = set()
    for slot in range(64):
        kind = output_type(node.get("class_type", ""), slot)
        if not kind:
            break
        kinds.add(kind)
    return kinds


def _links(node: Mapping[str, Any]) -> list[list[Any]]:
    inputs = node.get("inputs") or {}
    return [value for value in inputs.values() if isinstance(value, list) and len(value) == 2 and isinstance(value[1], int)]


def _texts(node: Mapping[str, Any]) -> list[str] | None:
    """The texts that a node encodes, None if some of them cannot be known: a link that brings no CLIP may bring one."""
    inputs = node.get("inputs") or {}
    texts = [value for value in inputs.values() if isinstance(value, str)]
    return texts if texts and len(_links(node)) == 1 else None


def _name(node: Mapping[str, Any]) -> Any:
    return (node.get("inputs") or {}).get("name")


def _bracketed(node: Mapping[str, Any]) -> str:
    return f"<{_name(node)}>"


def _inactive(workflow: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The names given by bypassed and muted nodes, and which of the two they are."""
    definitions = workflow.get("definitions") or {}
    for graph in (workflow, *(definitions.get("subgraphs") or ())):
        for node in graph.get("nodes") or ():
            place, values = NAMING.get(node.get("type")), node.get("widgets_values")
            mode = {BYPASSED: "bypassed", MUTED: "muted"}.get(node.get("mode"))
            if place is None or mode is None or not isinstance(values, list) or len(values) <= place:
                continue
            if isinstance(values[place], str):
                yield values[place].strip(), mode
