// Lists the pack's templates by their numbers: ComfyUI lists them in the order in which the disk holds them.
import { api } from "/scripts/api.js";

const FIRST = "1_quickstart";
const listed = api.getWorkflowTemplates;

if (listed) {
  api.getWorkflowTemplates = async function (...values) {
    const templates = await listed.apply(this, values);
    for (const names of Object.values(templates ?? {})) if (Array.isArray(names) && names.includes(FIRST)) names.sort();
    return templates;
  };
}
