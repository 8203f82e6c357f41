// The photo tab's middle: drop a photo, see it before | after, click its faces. `props.value` is what web/photo.py says.

const root = element.querySelector(".stage");
const language = [navigator.language, navigator.language.slice(0, 2), "en"].find((name) => name in props.words);
const words = props.words[language];
const ROUND = 1; // decimals of a percentage
const EDGE = 0.06; // share of the picture's height that a number above a face needs
let split = 50;
let shownId = null;
let loading = null; // the newest result, as long as it is on its way
let chosen = 0; // photos so far: of several that are still being sent, the last one chosen counts

function make(tag, attributes, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes ?? {})) {
        if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
        else if (value !== null && value !== false) made.setAttribute(name, value === true ? "" : value);
    }
    made.append(...children.filter((child) => child !== null));
    return made;
}

function address(file) {
    return `${window.gradio_config?.root ?? ""}/gradio_api/file=${file.split("/").map(encodeURIComponent).join("/")}`; // encodeURI leaves # and ?
}

async function take(files) {
    const [file] = files;
    if (!file) return;
    const { length } = files; // a chooser's list is emptied soon
    const number = ++chosen;
    root.classList.add("busy");
    try {
        const { path } = await upload(file);
        if (number === chosen) trigger("upload", { path, of: length });
    } finally {
        if (number === chosen) root.classList.remove("busy");
    }
}

const chooser = make("input", {
    type: "file", accept: "image/*,.heic,.heif,.avif,.tif,.tiff", class: "chooser", tabindex: "-1", "aria-label": words.choose,
    onchange: () => {
        take(chooser.files);
        chooser.value = "";
    },
});
const content = make("div", { class: "content" });
root.append(chooser, content);

for (const name of ["dragover", "dragleave", "drop"]) {
    root.addEventListener(name, (event) => {
        event.preventDefault();
        root.classList.toggle("over", name === "dragover");
        if (name === "drop") take(event.dataTransfer.files);
    });
}
document.addEventListener("paste", (event) => {
    if (root.offsetParent !== null && event.clipboardData.files.length) take(event.clipboardData.files);
});

function empty() {
    const examples = props.examples.map(({ file, result, label }) => {
        const plain = (event) => { // the result is not made yet
            event.target.removeEventListener("error", plain);
            event.target.src = address(file);
        };
        return make("button", { type: "button", class: "example", onclick: () => {
            chosen += 1;
            root.classList.remove("busy"); // a photo that is still being sent is wanted no more
            trigger("upload", { path: file });
        } },
            make("img", { src: address(result), alt: "", onerror: plain }), make("span", {}, words[label]));
    });
    content.replaceChildren(make("div", { class: "drop" },
        make("p", { class: "large" }, words.drop),
        make("button", { type: "button", class: "primary", id: "choose", onclick: () => chooser.click() }, words.choose),
        make("p", { class: "hint" }, words.drop_hint),
        make("p", { class: "hint" }, words.examples_hint),
        make("div", { class: "examples" }, ...examples)));
}

function setSplit(value) {
    split = Math.min(100, Math.max(0, value));
    const after = content.querySelector(".after");
    if (after) after.style.clipPath = `inset(0 0 0 ${split.toFixed(ROUND)}%)`;
    const line = content.querySelector(".line");
    if (line) line.style.left = `${split.toFixed(ROUND)}%`;
    const slider = content.querySelector(".split");
    if (slider) slider.value = split;
}

function drag(event) {
    const { left, width } = content.querySelector(".picture").getBoundingClientRect();
    setSplit((100 * (event.clientX - left)) / width);
}

function face({ box, included }, number) {
    const [left, top, width, height] = box.map((share) => `${(100 * share).toFixed(2)}%`);
    return make("button", {
        type: "button", class: box[1] < EDGE ? "face at-edge" : "face", "aria-pressed": String(included), "data-face": String(number),
        "aria-label": `${words.face} ${number}`, title: included ? words.leave_out : words.take_in,
        style: `left:${left};top:${top};width:${width};height:${height}`,
        onclick: ({ currentTarget }) => { // shown at once: the answer may have to wait for a restoration
            mark(currentTarget, currentTarget.getAttribute("aria-pressed") !== "true");
            trigger("select", { index: number, photo: props.value.before });
        },
    }, make("span", { "aria-hidden": "true" }, String(number)));
}

function mark(button, included) {
    button.setAttribute("aria-pressed", String(included));
    button.setAttribute("title", included ? words.leave_out : words.take_in);
}

function picture(state) {
    const ratio = state.width / state.height;
    const shown = make("div", { class: "picture", style: `aspect-ratio:${ratio};max-width:calc(var(--stage-height) * ${ratio})` },
        make("img", { class: "before", src: address(state.before), alt: words.photo_before }),
        state.after && make("img", { class: "after", src: address(state.after), alt: words.photo_after }),
        state.after && make("div", { class: "line", "aria-hidden": "true" }),
        state.after && make("span", { class: "chip left", "aria-hidden": "true" }, words.before),
        state.after && make("span", { class: "chip right", "aria-hidden": "true" }, words.after),
        make("div", { class: "faces", role: "group", "aria-label": words.faces }, ...state.faces.map(face)));
    if (state.after) {
        let dragged = false;
        shown.addEventListener("pointerdown", (event) => {
            if (!event.isPrimary) return; // two fingers zoom
            const start = event.clientX;
            const still = event.pointerType === "mouse" ? 3 : 10; // a finger trembles
            dragged = false;
            const move = (moved) => {
                dragged ||= Math.abs(moved.clientX - start) > still;
                if (dragged) drag(moved);
            };
            const over = new AbortController();
            const { signal } = over;
            document.addEventListener("pointermove", move, { signal });
            for (const name of ["pointerup", "pointercancel"]) document.addEventListener(name, () => over.abort(), { signal });
            event.preventDefault();
        });
        shown.addEventListener("click", (event) => { // of the border's way over a face; one by keys has no detail
            if (dragged && event.detail) event.stopPropagation();
        }, true);
    }
    return shown;
}

function full(state) {
    const focused = document.activeElement?.dataset?.face;
    content.replaceChildren(picture(state));
    if (state.after) {
        content.append(make("label", { class: "splitter" }, make("span", {}, words.before),
            make("input", {
                type: "range", class: "split", min: "0", max: "100", step: "1", value: String(split), "aria-label": words.border,
                oninput: (event) => setSplit(Number(event.target.value)),
            }), make("span", {}, words.after)));
        setSplit(split);
    }
    if (focused !== undefined) content.querySelector(`[data-face="${focused}"]`)?.focus();
}

function markAll({ faces }) {
    faces.forEach(({ included }, number) => {
        const button = content.querySelector(`[data-face="${number}"]`);
        if (button) mark(button, included);
    });
}

// Only what changed: the picture must not flicker while a setting moves.
function update(state) {
    const after = content.querySelector("img.after");
    if (after && state.after) {
        const next = new Image();
        loading = next;
        next.onload = () => {
            if (next === loading) after.src = next.src;
        };
        next.src = address(state.after);
    }
    markAll(state);
}

function show() {
    const state = props.value;
    if (!state?.before) {
        shownId = null;
        empty();
    } else if (shownId === state.before + Boolean(state.after) && content.querySelector(".picture")) update(state);
    else {
        if (!shownId) split = 50;
        shownId = state.before + Boolean(state.after);
        full(state);
    }
    if (state?.save) make("a", { href: address(state.save), download: state.name }).click();
}

document.documentElement.lang = language;
watch("value", show);
root.addEventListener("refused", () => markAll(props.value)); // of a click that came to nothing
show();
