// What a run noticed (a face left as sharp already, a number that no face has, a widget without effect, a model's licence), drawn on
// the node.

import { app } from "../../scripts/app.js";

const LINE = 18; // px
const WIDTH = 7; // px of a letter, about
const MARGIN = 24; // px that a widget loses above and below

class Notices {
    constructor(node) {
        this.node = node;
        this.texts = [];
        this.element = document.createElement("ul");
        this.element.className = "pfr-notices";
        this.element.style.cssText = `margin:0;padding:0 0 0 18px;overflow:auto;font:12px/${LINE}px sans-serif;color:#f5c451`;
        const height = () => this.height();
        const options = { serialize: false, hideOnZoom: false, getMinHeight: height, getMaxHeight: height };
        const widget = node.addDOMWidget("notices", "PFR_NOTICES", this.element, options);
        widget.serialize = false;
    }

    height() {
        const letters = Math.max(20, (this.node.size[0] - 50) / WIDTH);
        const lines = this.texts.reduce((lines, text) => lines + Math.ceil(text.length / letters), 0);
        return lines && lines * LINE + MARGIN;
    }

    update(texts) {
        this.texts = texts;
        this.element.replaceChildren();
        for (const text of texts) {
            const line = document.createElement("li");
            line.textContent = text;
            this.element.append(line);
        }
        const [width, height] = this.node.computeSize();
        this.node.setSize([Math.max(width, this.node.size[0]), Math.max(height, this.node.size[1])]);
    }
}

app.registerExtension({
    name: "PFR.Notices",
    beforeRegisterNodeDef(nodeType, nodeData) {
        if (!nodeData.name.startsWith("PFR")) return;
        const executed = nodeType.prototype.onExecuted;
        nodeType.prototype.onExecuted = function (output) {
            executed?.apply(this, arguments);
            const texts = output?.text ?? [];
            if (!texts.length && !this.pfrNotices) return; // made when there is something to say
            this.pfrNotices ??= new Notices(this);
            this.pfrNotices.update(texts);
        };
    },
});
