// Widgets that few need are folded away on the canvas, too: its nodes know how, but are not told which widgets these are, as the
// page's newer nodes are. A button shows them; where a workflow has set or connected one of them, they are shown from the start.

import { app } from "../../scripts/app.js";

const LABELS = { en: "more | fewer options", zh: "更多 | 更少选项", ja: "オプションを増やす | 減らす", de: "mehr | weniger Optionen" };
const GAP = 4; // px that the canvas puts between widgets, and still gives to one that is not shown

// Give a widget what the copy of it on a subgraph does not get: there is no button there to show it again.
function keep(widget, name, value) {
    Object.defineProperty(widget, name, { value, enumerable: false, writable: true, configurable: true });
}

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
            for (const widget of this.widgets.filter((widget) => defaults.has(widget.name))) {
                keep(widget, "advanced", true);
                keep(widget, "computeSize", (width) => [width, this.showAdvanced ? window.LiteGraph.NODE_WIDGET_HEIGHT : -GAP]);
            }
            const label = LABELS[app.extensionManager?.setting?.get("Comfy.Locale")] ?? LABELS.en;
            const toggle = () => {
                this.toggleAdvanced();
                this.setSize([this.size[0], this.computeSize()[1]]);
            };
            const button = this.addWidget("button", label, null, toggle, { canvasOnly: true, serialize: false });
            button.serialize = false;
            this.setSize(this.computeSize());
        };
        nodeType.prototype.onConfigure = function () {
            onConfigure?.apply(this, arguments);
            const set = this.widgets.some((widget) => defaults.has(widget.name) && widget.value !== defaults.get(widget.name));
            const connected = this.inputs?.some((input) => input.link != null && defaults.has(input.widget?.name));
            if (set || connected) this.showAdvanced = true;
        };
    },
});
