// Widgets that few need are folded away on the canvas, too, whose nodes know how but are not told which; the page's newer nodes are.
// A button shows them, as "Show Advanced" in the node's menu does; where a workflow has set one of them, they are shown.

import { app } from "../../scripts/app.js";

const LABELS = { en: "more | fewer options", zh: "更多 | 更少选项", ja: "オプションを増やす | 減らす", de: "mehr | weniger Optionen" };

app.registerExtension({
    name: "PFR.Advanced",
    beforeRegisterNodeDef(nodeType, nodeData) {
        if (!nodeData.name.startsWith("PFR")) return;
        const inputs = Object.entries({ ...nodeData.input?.required, ...nodeData.input?.optional });
        const defaults = new Map(inputs.filter(([, [, options]]) => options?.advanced).map(([name, [, options]]) => [name, options.default]));
        if (!defaults.size) return;
        const { onNodeCreated, onConfigure } = nodeType.prototype;
        nodeType.prototype.onNodeCreated = function () {
            onNodeCreated?.apply(this, arguments);
            for (const widget of this.widgets) if (defaults.has(widget.name)) widget.advanced = true;
            const label = LABELS[app.extensionManager?.setting?.get("Comfy.Locale")] ?? LABELS.en;
            const button = this.addWidget("button", label, null, () => this.toggleAdvanced(), { canvasOnly: true, serialize: false });
            button.serialize = false;
            this.setSize(this.computeSize());
        };
        nodeType.prototype.onConfigure = function () {
            onConfigure?.apply(this, arguments);
            if (this.widgets.some((widget) => defaults.has(widget.name) && widget.value !== defaults.get(widget.name))) this.showAdvanced = true;
        };
    },
});
