// Names for what Gradio leaves nameless to screen readers, keys for what it lets only a mouse reach, and no error where there is none.
(() => {
    const name = (selector, label) =>
        document.querySelectorAll(selector).forEach((each) => {
            if (!each.getAttribute("aria-label") && !each.textContent.trim()) each.setAttribute("aria-label", label);
        });
    const mend = () => {
        // What a job has come to is said where nobody looks who hears the page.
        const told = "#told, #batch-told, #clip-told, #compare-told, #figures";
        document.querySelectorAll(told).forEach((each) => each.setAttribute("role", "status"));
        name("button:not([aria-label])", "button");
        // A name that is not what is seen, and one on an element that cannot have any.
        document.querySelectorAll("button.upload-container[aria-label], div.empty[aria-label]:not([role])").forEach((each) => {
            each.removeAttribute("aria-label");
        });
        document.querySelectorAll("input:not([aria-label]):not([id]), input[type=file]:not([aria-label])").forEach((input) => {
            const label = input.closest(".block")?.querySelector("label, [data-testid=block-info], [data-testid=block-label]");
            if (!input.labels?.length) input.setAttribute("aria-label", label?.textContent.trim() || "file");
        });
    };
    // Of a clip that the browser cannot show Gradio says "Error"; the page itself says that it is restored all the same.
    document.addEventListener("error", (event) => event.target.matches?.("#clip video") && event.stopImmediatePropagation(), true);
    // A slider tells that it was let go where a pointer did so; keys let it go, too.
    document.addEventListener("keyup", (event) => {
        if (event.target.type === "range" && /^(Arrow|Home|End|Page)/.test(event.key))
            event.target.dispatchEvent(new PointerEvent("pointerup", { bubbles: true }));
    });
    // A file that is dropped beside the field for it would take the page's place, and with it what is open.
    for (const kind of ["dragover", "drop"])
        window.addEventListener(kind, (event) => event.dataTransfer?.types.includes("Files") && event.preventDefault());
    let waiting = false;
    new MutationObserver(() => {
        if (waiting) return;
        waiting = true;
        setTimeout(() => ((waiting = false), mend()), 100);
    }).observe(document, { childList: true, subtree: true });
})();
