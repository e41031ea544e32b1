// Shows the pack's notices as toasts (nodes/host/notices.py sends them), and a finished node's image in place of its last preview.
import { app } from "/scripts/app.js";
import { api } from "/scripts/api.js";

const REVOKED = 900; // milliseconds after which ComfyUI has dropped a revoked preview

function titleOf(id) {
  const node = id == null ? null : app.graph.getNodeById(Number(String(id).split(":").pop()));
  return node ? node.title : "HybridBooth";
}

// ComfyUI shows previews before a node's own image, and keeps the last one for a while; afterwards the node's image is set again.
function showOwnImage(node, id, output) {
  const stores = document.getElementById("vue-app")?.__vue_app__?.config?.globalProperties?.$pinia?._s;
  const outputs = stores?.get("nodeOutput");
  if (outputs?.revokePreviewsByExecutionId) outputs.revokePreviewsByExecutionId(id);
  else if (app.nodePreviewImages) delete app.nodePreviewImages[id];
  setTimeout(() => {
    outputs?.setNodeOutputsByExecutionId?.(id, { ...output });
    node.images = node.imgs = node.preview = undefined;
    node.setDirtyCanvas?.(true, true);
  }, REVOKED);
}

app.registerExtension({
  name: "hybridbooth.notices",
  setup() {
    api.addEventListener("executed", ({ detail }) => {
      const node = app.graph.getNodeById(Number(String(detail.display_node ?? detail.node).split(":").pop()));
      const ours = node?.comfyClass?.startsWith("HybridBooth_");
      if (ours && detail.output?.images) showOwnImage(node, detail.display_node ?? detail.node, detail.output);
    });
    api.addEventListener("hybridbooth.notice", ({ detail }) => {
      app.extensionManager.toast.add({ severity: "warn", summary: titleOf(detail.node), detail: detail.text, life: 20000 });
    });
  },
});
