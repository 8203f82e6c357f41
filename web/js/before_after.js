// Before | after on the nodes that put faces into pictures: the faces of this run; move the pointer over them to shift the border.

import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";

const NODES = ["PFRRestoreFaces", "PFRRestoreClip", "PFRPasteFaces"];
const HEIGHT = 240; // px of the preview on a node of ordinary width
const FILL = "position:absolute;inset:0;width:100%;height:100%";
const LABELS = {
    en: ["before", "after", "No face was restored in this run."],
    zh: ["修复前", "修复后", "本次运行未修复任何人脸。"],
    ja: ["修復前", "修復後", "今回の実行では顔は修復されませんでした。"],
    de: ["vorher", "nachher", "In diesem Lauf wurde kein Gesicht restauriert."],
};

class BeforeAfter {
    constructor(node) {
        this.element = document.createElement("div");
        this.element.className = "pfr-before-after";
        this.element.style.cssText = "position:relative;overflow:hidden;width:100%;height:100%;min-height:200px;border-radius:4px;touch-action:none";
        [this.before, this.after] = [this.add("img"), this.add("img")];
        for (const image of [this.before, this.after]) {
            image.draggable = false;
            image.style.cssText = `${FILL};object-fit:contain`;
        }
        this.line = this.add("div");
        this.line.style.cssText = "position:absolute;top:0;bottom:0;width:2px;margin-left:-1px;background:#fff;box-shadow:0 0 3px #000";
        const [left, right, none] = LABELS[app.extensionManager?.setting?.get("Comfy.Locale")] ?? LABELS.en;
        const style = "position:absolute;bottom:4px;padding:1px 6px;border-radius:4px;font:12px sans-serif;color:#fff;background:#0009";
        const labels = [[left, "left:4px"], [right, "right:4px"]].map(([text, side]) => this.label(text, `${style};${side}`));
        this.pictures = [this.before, this.after, this.line, ...labels];
        this.none = this.label(none, "position:absolute;inset:0;display:grid;place-items:center;font:12px sans-serif;color:var(--input-text,#ddd)");
        this.element.addEventListener("pointermove", (event) => {
            const { left, width } = this.element.getBoundingClientRect();
            this.split((event.clientX - left) / width);
        });
        this.split(0.5);
        const widget = node.addDOMWidget("before_after", "PFR_BEFORE_AFTER", this.element, {
            serialize: false,
            hideOnZoom: false,
            getMinHeight: () => HEIGHT,
        });
        widget.serialize = false;
    }

    add(tag) {
        const element = document.createElement(tag);
        this.element.append(element);
        return element;
    }

    label(text, style) {
        const label = this.add("span");
        label.textContent = text;
        label.style.cssText = style;
        return label;
    }

    split(share) {
        const percent = 100 * Math.min(1, Math.max(0, share));
        this.line.style.left = `${percent}%`;
        this.after.style.clipPath = `inset(0 0 0 ${percent}%)`;
    }

    update(before, after) {
        const url = (picture) => api.apiURL(`/view?${new URLSearchParams(picture)}`);
        for (const element of this.pictures) element.hidden = !before;
        this.none.style.display = before ? "none" : "grid";
        if (!before) return;
        this.before.src = url(before);
        this.after.src = url(after);
    }
}

app.registerExtension({
    name: "PFR.BeforeAfter",
    beforeRegisterNodeDef(nodeType, nodeData) {
        if (!NODES.includes(nodeData.name)) return;
        const executed = nodeType.prototype.onExecuted;
        nodeType.prototype.onExecuted = function (output) {
            executed?.apply(this, arguments);
            if (!output?.pfr_before) return;
            if (!this.pfrBeforeAfter) {
                if (!output.pfr_before.length) return;
                this.pfrBeforeAfter = new BeforeAfter(this); // made when there is something to show
                const [width, height] = this.computeSize();
                this.setSize([Math.max(width, this.size[0]), Math.max(height, this.size[1])]);
            }
            this.pfrBeforeAfter.update(output.pfr_before[0], output.pfr_after[0]);
        };
    },
});
