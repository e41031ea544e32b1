// Subjects as files: Save Subject offers its file for download; Load Subject shows what a file is for, and takes uploads.
// Uses ComfyUI's own routes only. Metadata is untrusted: it is shown as text, never as HTML.
import { app } from "/scripts/app.js";
import { api } from "/scripts/api.js";

const SAVE = "HybridBooth_SaveSubject";
const LOAD = "HybridBooth_LoadSubject";
const UPLOADS = "hybridbooth";
const INPUT = " [input]";
const FAMILIES = { "stable-diffusion-v1": "SD 1.5", miniature: "miniature" };
const known = new Map(); // file name -> a short text on what it is for

const plain = (text) => String(text ?? "").replace(/[^\p{L}\p{N}\p{P}\p{Zs}]/gu, "").slice(0, 60);

async function describe(name) {
  if (name.endsWith(INPUT)) return "uploaded";
  const answer = await api.fetchApi(`/view_metadata/embeddings?filename=${encodeURIComponent(name)}`);
  if (!answer.ok) return "made elsewhere, or missing";
  const facts = await answer.json();
  if (facts.format !== "hybridbooth.subject") return "made elsewhere, or missing";
  const noun = plain(facts.class_noun ?? facts.class_word);
  const base = plain(FAMILIES[facts.family] ?? facts.family) || (facts.width === "96" ? "miniature" : `width ${plain(facts.width)}`);
  return [noun, base].filter(Boolean).join(", ");
}

function button(node, label, press) {
  return node.addWidget("button", label, null, press, { serialize: false });
}

function line(node) {
  const widget = node.addWidget("text", "is for", "", () => {}, { serialize: false });
  widget.serialize = false;
  return widget;
}

function thumbnail(node) {
  const image = document.createElement("img");
  image.style.cssText = "width: 100%; height: 100%; object-fit: contain; display: none;";
  image.onload = () => (image.style.display = "");
  image.onerror = () => (image.style.display = "none");
  node.addDOMWidget("thumbnail", "image", image, { serialize: false, getMinHeight: () => (image.style.display === "none" ? 0 : 120) });
  return image;
}

async function upload(widget, refresh) {
  const picker = document.createElement("input");
  picker.type = "file";
  picker.accept = ".safetensors";
  picker.onchange = async () => {
    const body = new FormData();
    body.append("image", picker.files[0]); // the route's name for any file
    body.append("subfolder", UPLOADS);
    body.append("type", "input");
    const answer = await api.fetchApi("/upload/image", { method: "POST", body });
    if (!answer.ok) {
      app.extensionManager.toast.add({ severity: "error", summary: "Load Subject", detail: "the upload failed", life: 10000 });
      return;
    }
    const { name } = await answer.json();
    await app.refreshComboInNodes();
    widget.value = `${UPLOADS}/${name}${INPUT}`;
    refresh();
  };
  picker.click();
}

function loads(node) {
  const choice = node.widgets?.find((widget) => widget.name === "subject");
  if (!choice) return;
  const about = line(node);
  const image = thumbnail(node);
  const refresh = async () => {
    const name = choice.value;
    if (!name) return;
    image.src = name.endsWith(INPUT) ? "" : api.apiURL(`/experiment/models/preview/embeddings/0/${name.split("/").map(encodeURIComponent).join("/")}`);
    if (!known.has(name)) known.set(name, await describe(name));
    if (choice.value === name) about.value = known.get(name);
    node.setDirtyCanvas?.(true, true);
  };
  choice.options.getOptionLabel = (name) => (known.has(name) ? `${name} (${known.get(name)})` : String(name ?? ""));
  const before = choice.callback;
  choice.callback = function (...values) {
    const result = before?.apply(this, values);
    refresh();
    return result;
  };
  button(node, "upload a subject", () => upload(choice, refresh));
  const configured = node.onConfigure;
  node.onConfigure = function (...values) {
    configured?.apply(this, values);
    refresh();
  };
  refresh();
  mark(choice.options.values);
}

async function mark(names) {
  for (const name of Array.isArray(names) ? names.slice(0, 200) : []) if (!known.has(name)) known.set(name, await describe(name));
}

function saves(node) {
  const saved = line(node);
  saved.name = "saved";
  const executed = node.onExecuted;
  let file = null;
  const fetchFile = button(node, "download", () => {
    if (!file) return;
    const link = document.createElement("a");
    link.href = api.apiURL(`/view?${new URLSearchParams(file)}`);
    link.download = file.filename;
    link.click();
  });
  fetchFile.disabled = true;
  node.onExecuted = function (output) {
    executed?.apply(this, [output]);
    file = output?.hybridbooth_files?.[0] ?? null;
    fetchFile.disabled = !file;
    saved.value = output?.text?.[0] ?? "";
    if (file) known.delete(file.filename);
    app.refreshComboInNodes(); // so that Load Subject lists the new file
  };
}

app.registerExtension({
  name: "hybridbooth.subjects",
  nodeCreated(node) {
    if (node.comfyClass === LOAD) loads(node);
    if (node.comfyClass === SAVE) saves(node);
  },
});
