// Shows the pack's notices as toasts. nodes/host/notices.py sends them.
import { app } from "/scripts/app.js";
import { api } from "/scripts/api.js";

function titleOf(id) {
  const node = id == null ? null : app.graph.getNodeById(Number(String(id).split(":").pop()));
  return node ? node.title : "HybridBooth";
}

app.registerExtension({
  name: "hybridbooth.notices",
  setup() {
    api.addEventListener("hybridbooth.notice", ({ detail }) => {
      app.extensionManager.toast.add({ severity: "warn", summary: titleOf(detail.node), detail: detail.text, life: 20000 });
    });
  },
});
