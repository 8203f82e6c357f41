// The face picker on Detect Faces: the faces of the last run on the picture. A click drops a face or takes it again, with Shift it
// keeps only that one; arrow keys go from face to face, Enter and the space bar do as a click does.
//
// The choice is the node's own widgets (select, indices, count), so it is saved with the workflow and works without this
// script. What the picker shows is kept in the node's properties, so that it is there again when the page is reloaded.

import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";

const NODE = "PFRDetectFaces";
const PROPERTY = "pfr_picker";
const NUMBERING = ["detector", "threshold", "detection_size", "sideways", "min_face_size", "max_face_size", "order"]; // widgets
const SVG = "http://www.w3.org/2000/svg";
const KEPT = "#22c55e";
const DROPPED = "#a1a1aa";
const PICTURE = 200; // px at least, so that the numbers can be read
const SETTLED = 100; // ms after which the page has the elements of a node in place
const HEIGHT = PICTURE + 90; // px, with the buttons and two lines

const TEXTS = {
    en: {
        first: "Run once, then click faces here to choose them.",
        none: "No face was found.",
        kept: (kept, all) => `${kept} of ${all} faces kept. Click drops or keeps one, Shift+click keeps only that one.`,
        sharp: (sharp) => `${sharp} left: already sharp.`,
        frame: (frame, frames) => `Frame ${frame} of ${frames}; the choice holds for every frame.`,
        gone: "The picture is gone; run again to see it.",
        changed: "How faces are looked for has changed, and so may their numbers; run again.",
        buttons: ["All", "None"],
    },
    zh: {
        first: "运行一次，然后在此处点击人脸进行选择。",
        none: "未找到人脸。",
        kept: (kept, all) => `已保留 ${kept} / ${all} 张人脸。点击可去除或保留，Shift+点击则只保留该人脸。`,
        sharp: (sharp) => `${sharp} 张已足够清晰，保持原样。`,
        frame: (frame, frames) => `第 ${frame} / ${frames} 帧；该选择适用于所有帧。`,
        gone: "图片已不存在；请重新运行。",
        changed: "查找人脸的方式已更改，编号可能不同；请重新运行。",
        buttons: ["全选", "全不选"],
    },
    ja: {
        first: "一度実行してから、ここで顔をクリックして選びます。",
        none: "顔が見つかりませんでした。",
        kept: (kept, all) => `${all} 個中 ${kept} 個の顔を選択中。クリックで切り替え、Shift+クリックでその顔だけを選びます。`,
        sharp: (sharp) => `${sharp} 個はすでに鮮明なため、そのままです。`,
        frame: (frame, frames) => `フレーム ${frame} / ${frames}。選択はすべてのフレームに適用されます。`,
        gone: "画像がありません。もう一度実行してください。",
        changed: "顔の探し方が変わったため、番号も変わることがあります。もう一度実行してください。",
        buttons: ["すべて", "なし"],
    },
    de: {
        first: "Einmal ausführen, dann hier Gesichter anklicken, um sie zu wählen.",
        none: "Es wurde kein Gesicht gefunden.",
        kept: (kept, all) => `${kept} von ${all} Gesichtern gewählt. Ein Klick wählt an oder ab, Umschalt+Klick wählt nur dieses.`,
        sharp: (sharp) => `${sharp} schon scharf und unverändert gelassen.`,
        frame: (frame, frames) => `Bild ${frame} von ${frames}; die Wahl gilt für alle Bilder.`,
        gone: "Das Bild ist nicht mehr da; bitte neu ausführen.",
        changed: "Gesichter werden jetzt anders gesucht, und die Nummern können andere sein; bitte neu ausführen.",
        buttons: ["Alle", "Keins"],
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

// What the page shows of each node's picker, by the ids of its graph and its own, for nodes in copies of a subgraph have the same.
// With Vue nodes an undo makes the node anew, but the page keeps the element of the one before.
const mounted = new Map();

class FacePicker {
    constructor(node) {
        this.node = node;
        this.element = document.createElement("div");
        this.element.className = "pfr-face-picker";
        this.element.style.cssText = "display:flex;flex-direction:column;gap:4px;width:100%;height:100%;overflow:hidden";
        this.svg = create("svg", { preserveAspectRatio: "xMidYMid meet" });
        this.svg.style.cssText = `flex:1 1 0;min-height:${PICTURE}px;width:100%;background:#0003;border-radius:4px`;
        this.status = document.createElement("div");
        this.status.style.cssText = "font:12px sans-serif;color:var(--input-text,#ddd);white-space:normal";
        this.buttons = document.createElement("div");
        this.buttons.style.cssText = "display:flex;gap:6px";
        const choices = [() => this.data.boxes.map((_, number) => number), () => []];
        choices.forEach((choice, number) => {
            const button = document.createElement("button");
            button.textContent = texts().buttons[number];
            button.style.cssText = "flex:1;font:12px sans-serif;padding:2px;color:var(--input-text,#ddd);background:var(--comfy-input-bg,#222);border:1px solid #666;border-radius:4px;cursor:pointer";
            button.addEventListener("click", () => this.keep(choice()));
            this.buttons.append(button);
        });
        this.content = [this.svg, this.buttons, this.status];
        this.element.append(...this.content);
        const options = { serialize: false, hideOnZoom: false, getMinHeight: () => (this.data?.boxes ? HEIGHT : 40) };
        const widget = node.addDOMWidget("face_picker", "PFR_FACE_PICKER", this.element, options);
        widget.serialize = false; // nothing of its own to save: the choice is in the other widgets
        for (const name of [...NUMBERING, "select", "indices", "count", "only_bad_faces"]) this.watch(this.widget(name));
        this.show();
    }

    // Put the picker where the page shows it.
    settle() {
        const key = `${this.node.graph?.id}:${this.node.id}`;
        const before = mounted.get(key);
        const home = !this.element.isConnected && before?.isConnected ? before : this.element;
        mounted.set(key, home);
        if (this.svg.parentElement !== home) home.replaceChildren(...this.content);
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
            // Numbers that were picked before have no effect with another way to choose.
            if (widget.name === "select" && widget.value !== "index" && this.widget("indices").value) this.set("indices", "");
            this.show();
            return result;
        };
    }

    // A run is over: keep what it found.
    update(data) {
        this.node.properties ??= {};
        this.node.properties[PROPERTY] = { ...data, how: this.how };
        this.show();
        const [width, height] = this.node.size;
        this.node.setSize([width, Math.max(height, this.node.computeSize()[1])]);
    }

    // What gives the faces their numbers, as the widgets stand.
    get how() {
        return JSON.stringify(NUMBERING.map((name) => this.widget(name)?.value));
    }

    get sharp() {
        return this.widget("only_bad_faces")?.value ? (this.data.sharp ?? []) : []; // of the last run
    }

    kept() {
        const { boxes, chosen } = this.data;
        const select = this.widget("select").value;
        if (select === "index") return this.widget("indices").value.match(/\d+/g)?.map(Number).filter((i) => i < boxes.length) ?? [];
        if (select !== "all" || this.widget("count").value) return chosen;
        return boxes.map((_, i) => i).filter((i) => !this.sharp.includes(i));
    }

    toggle(number, only) {
        const kept = new Set(this.kept());
        if (only) return this.keep([number]);
        if (!kept.delete(number)) kept.add(number);
        this.keep([...kept]);
    }

    keep(numbers) {
        const all = numbers.length === this.data.boxes.length && !this.sharp.length; // a sharp face must be asked for by its number
        // One step for the page, which by itself looks for changes before a click is heard: it can be undone, and a reload has it.
        app.canvas.emitBeforeChange();
        this.set("count", 0); // it goes with select=all only
        this.set("select", all ? "all" : "index");
        this.set("indices", all ? "" : numbers.sort((a, b) => a - b).join(", "));
        app.canvas.emitAfterChange();
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
        this.buttons.style.display = data?.boxes ? "flex" : "none";
        if (!data?.boxes) {
            this.status.textContent = data ? texts().none : texts().first;
            return;
        }
        const [width, height] = data.size;
        svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
        const kept = new Set(this.kept());
        const lines = [texts().kept(kept.size, data.boxes.length)];
        const left = this.widget("select").value === "all" ? this.sharp.length : 0;
        if (left) lines.push(texts().sharp(left));
        if (data.how && data.how !== this.how) lines.push(texts().changed);
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
        const size = Math.min(7 * unit, Math.max(4.5 * unit, (bottom - top) / 4)); // 14 px or more on a node of ordinary width
        const label = { x: left, y: top, width: size * (0.6 + 0.6 * `${number}`.length), height: size * 1.2, fill: color };
        create("rect", label, group);
        const middle = { x: left + label.width / 2, y: top + size * 0.95, "font-size": size, "text-anchor": "middle" };
        create("text", { ...middle, "font-family": "sans-serif", fill: "#000" }, group).textContent = number;
        group.addEventListener("pointerdown", (event) => event.stopPropagation()); // not a drag of the node
        group.addEventListener("click", (event) => this.toggle(number, event.shiftKey));
        group.addEventListener("keydown", (event) => {
            const step = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 }[event.key];
            const press = event.key === "Enter" || event.key === " ";
            if (!step && !press) return;
            event.preventDefault();
            event.stopPropagation(); // the page has shortcuts of its own
            if (press) this.toggle(number, event.shiftKey);
            const { length } = this.data.boxes;
            this.svg.querySelector(`[data-face="${(number + (step ?? 0) + length) % length}"]`)?.focus();
        });
    }
}

// The page hands what a run found to whichever workflow is open when it is found. Which one was open when the run was asked for is
// kept here by the run's id; a run that another page, or this one before a reload, asked for is taken as before.
const asked = new Map();
let foreign = false; // whether what comes now is of another workflow's run

function openWorkflow() {
    return app.extensionManager?.workflow?.activeWorkflow;
}

const { queuePrompt } = api;
api.queuePrompt = async function (...args) {
    const workflow = openWorkflow();
    const answer = await queuePrompt.apply(this, args);
    if (answer?.prompt_id) asked.set(answer.prompt_id, workflow);
    return answer;
};

const watch = ({ detail }) => (foreign = asked.has(detail.prompt_id) && asked.get(detail.prompt_id) !== openWorkflow());
api.addEventListener("executed", watch, { capture: true }); // before the page's own, in whichever order they were added
for (const end of ["execution_success", "execution_error", "execution_interrupted"]) {
    api.addEventListener(end, ({ detail }) => asked.delete(detail.prompt_id)); // nothing else comes of that run
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
            setTimeout(() => this.pfrPicker?.settle(), SETTLED);
        });
        after(nodeType.prototype, "onExecuted", function (output) {
            if (foreign) return;
            this.pfrPicker?.settle();
            if (output?.pfr_picker) this.pfrPicker?.update(output.pfr_picker[0]);
        });
    },
});
