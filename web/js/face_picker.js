// The face picker on Detect Faces: the faces of the last run on the picture; a click drops a face or takes it again.
//
// The choice is the node's own widgets (select, indices, count), so it is saved with the workflow and works without this
// script. What the picker shows is kept in the node's properties, so that it is there again when the page is reloaded.

import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";

const NODE = "PFRDetectFaces";
const PROPERTY = "pfr_picker";
const SVG = "http://www.w3.org/2000/svg";
const KEPT = "#22c55e";
const DROPPED = "#a1a1aa";
const HEIGHT = 240; // px of the picture on a node of ordinary width

const TEXTS = {
    en: {
        first: "Run once, then click faces here to choose them.",
        none: "No face was found.",
        kept: (kept, all) => `${kept} of ${all} faces kept. Click to drop or keep.`,
        frame: (frame, frames) => `Frame ${frame} of ${frames}; the choice holds for every frame.`,
        last: "At least one face must be kept; bypass the node to keep none.",
        gone: "The picture is gone; run again to see it.",
    },
    zh: {
        first: "运行一次，然后在此处点击人脸进行选择。",
        none: "未找到人脸。",
        kept: (kept, all) => `已保留 ${kept} / ${all} 张人脸。点击可去除或保留。`,
        frame: (frame, frames) => `第 ${frame} / ${frames} 帧；该选择适用于所有帧。`,
        last: "至少要保留一张人脸；若都不需要，请绕过此节点。",
        gone: "图片已不存在；请重新运行。",
    },
    ja: {
        first: "一度実行してから、ここで顔をクリックして選びます。",
        none: "顔が見つかりませんでした。",
        kept: (kept, all) => `${all} 個中 ${kept} 個の顔を選択中。クリックで切り替えます。`,
        frame: (frame, frames) => `フレーム ${frame} / ${frames}。選択はすべてのフレームに適用されます。`,
        last: "少なくとも 1 つの顔が必要です。不要ならノードをバイパスしてください。",
        gone: "画像がありません。もう一度実行してください。",
    },
};

function texts() {
    return TEXTS[app.extensionManager?.setting?.get("Comfy.Locale")] ?? TEXTS.en;
}

function create(name, attributes, parent) {
    const element = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    parent?.append(element);
    return element;
}

class FacePicker {
    constructor(node) {
        this.node = node;
        this.element = document.createElement("div");
        this.element.className = "pfr-face-picker";
        this.element.style.cssText = "display:flex;flex-direction:column;gap:4px;width:100%;height:100%;overflow:hidden";
        this.svg = create("svg", { preserveAspectRatio: "xMidYMid meet" }, this.element);
        this.svg.style.cssText = "flex:1 1 0;min-height:0;width:100%;background:#0003;border-radius:4px";
        this.status = document.createElement("div");
        this.status.style.cssText = "font:12px sans-serif;color:var(--input-text,#ddd);white-space:normal";
        this.element.append(this.status);
        const options = { serialize: false, hideOnZoom: false, getMinHeight: () => (this.data?.boxes ? HEIGHT : 40) };
        const widget = node.addDOMWidget("face_picker", "PFR_FACE_PICKER", this.element, options);
        widget.serialize = false; // nothing of its own to save: the choice is in the other widgets
        for (const name of ["select", "indices", "count"]) this.watch(this.widget(name));
        this.show();
    }

    get data() {
        return this.node.properties?.[PROPERTY];
    }

    widget(name) {
        return this.node.widgets?.find((widget) => widget.name === name);
    }

    watch(widget) {
        if (!widget) return;
        const before = widget.callback;
        widget.callback = (...args) => {
            const result = before?.apply(widget, args);
            this.show();
            return result;
        };
    }

    // A run is over: keep what it found.
    update(data) {
        this.node.properties ??= {};
        this.node.properties[PROPERTY] = data ?? {};
        this.show();
        const [width, height] = this.node.size;
        this.node.setSize([width, Math.max(height, this.node.computeSize()[1])]);
    }

    kept() {
        const { boxes, chosen } = this.data;
        const select = this.widget("select").value;
        if (select === "index") return this.widget("indices").value.match(/\d+/g)?.map(Number).filter((i) => i < boxes.length) ?? [];
        return select === "all" && !this.widget("count").value ? boxes.map((_, i) => i) : chosen;
    }

    toggle(number) {
        const kept = new Set(this.kept());
        if (!kept.delete(number)) kept.add(number);
        if (!kept.size) {
            this.status.textContent = texts().last;
            return;
        }
        const all = kept.size === this.data.boxes.length;
        this.set("count", 0); // it goes with select=all only
        this.set("indices", all ? "" : [...kept].sort((a, b) => a - b).join(", "));
        this.set("select", all ? "all" : "index");
        this.node.graph?.setDirtyCanvas(true, true);
    }

    set(name, value) {
        const widget = this.widget(name);
        widget.value = value;
        widget.callback?.(value);
    }

    show() {
        const { data, svg } = this;
        svg.replaceChildren();
        svg.style.display = data?.boxes ? "" : "none";
        if (!data?.boxes) {
            this.status.textContent = data ? texts().none : texts().first;
            return;
        }
        const [width, height] = data.size;
        svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
        const kept = new Set(this.kept());
        const lines = [texts().kept(kept.size, data.boxes.length)];
        if (data.frames > 1) lines.push(texts().frame(data.frame + 1, data.frames));
        this.status.textContent = lines.join(" ");
        const image = create("image", { width, height, href: api.apiURL(`/view?${new URLSearchParams(data.picture)}`) }, svg);
        image.addEventListener("error", () => (this.status.textContent = texts().gone));
        const unit = Math.max(width, height) / 100;
        data.boxes.forEach((box, number) => this.draw(box, number, kept.has(number), unit));
    }

    draw([left, top, right, bottom], number, kept, unit) {
        const group = create("g", { role: "checkbox", "aria-checked": kept, "aria-label": `${number}`, tabindex: 0 }, this.svg);
        group.style.cursor = "pointer";
        group.dataset.face = number;
        const color = kept ? KEPT : DROPPED;
        const frame = { x: left, y: top, width: right - left, height: bottom - top, stroke: color, "stroke-width": unit * 0.8 };
        create("rect", { ...frame, fill: kept ? "#0000" : "#000a", "stroke-dasharray": kept ? "none" : unit * 2 }, group);
        const size = Math.min(6 * unit, Math.max(2.5 * unit, (bottom - top) / 4));
        const label = { x: left, y: top, width: size * (0.6 + 0.6 * `${number}`.length), height: size * 1.2, fill: color };
        create("rect", label, group);
        const middle = { x: left + label.width / 2, y: top + size * 0.95, "font-size": size, "text-anchor": "middle" };
        create("text", { ...middle, "font-family": "sans-serif", fill: "#000" }, group).textContent = number;
        group.addEventListener("pointerdown", (event) => event.stopPropagation()); // not a drag of the node
        group.addEventListener("click", () => this.toggle(number));
        group.addEventListener("keydown", (event) => {
            if (event.key !== "Enter" && event.key !== " ") return;
            event.preventDefault();
            event.stopPropagation(); // the page has shortcuts of its own
            this.toggle(number);
            this.svg.querySelector(`[data-face="${number}"]`)?.focus();
        });
    }
}

function after(prototype, name, action) {
    const before = prototype[name];
    prototype[name] = function (...args) {
        const result = before?.apply(this, args);
        action.apply(this, args);
        return result;
    };
}

app.registerExtension({
    name: "PFR.FacePicker",
    beforeRegisterNodeDef(nodeType, nodeData) {
        if (nodeData.name !== NODE) return;
        after(nodeType.prototype, "onNodeCreated", function () {
            this.pfrPicker = new FacePicker(this);
        });
        after(nodeType.prototype, "onConfigure", function () {
            this.pfrPicker?.show();
        });
        after(nodeType.prototype, "onExecuted", function (output) {
            if (output?.pfr_picker) this.pfrPicker?.update(output.pfr_picker[0]);
        });
    },
});
