// Hotkeys, clicks on cards and names for screen readers, for a box of stock widgets; and a warning when Python no
// longer answers.
// It draws nothing but the warning; it listens on the nearest ancestor with the class rlhf-root.

const FOCUSABLE = "button,input,select,textarea,a,[tabindex]";
const PATIENCE = 2500; // milliseconds without an answer before we say so

function render({ model, el }) {
  const bar = document.createElement("div");
  bar.setAttribute("role", "alert");
  bar.style.cssText = "display:none;background:#A00000;color:#fff;padding:.5em 1em;font-weight:600";
  el.appendChild(bar);

  let root = null;
  let observer = null;
  let count = 0;
  let stopped = false;
  let clicking = null;
  const waiting = new Map(); // number of a message -> its timer
  const view = Math.random().toString(36).slice(2); // with the numbers, Python puts our messages in order

  function warn(text) {
    bar.textContent = text;
    bar.style.display = "block";
    bar.scrollIntoView({ block: "nearest" }); // every time: the person may be far down the page
  }

  function ask(content) {
    const n = count + 1;
    // After a restart of the kernel send() throws; before that, nothing comes back. Both must be seen.
    try {
      model.send({ ...content, n, view });
      count = n; // a message that was not sent leaves no gap
    } catch (error) {
      warn(model.get("lost").restart);
      return;
    }
    waiting.set(n, setTimeout(() => warn(model.get("lost").busy), PATIENCE));
  }

  function onMessage(content) {
    if (content && content.kind === "top" && root) root.scrollIntoView({ block: "start" });
    if (!content || content.kind !== "ack") return;
    // Python answers in order, so an answer also settles whatever was asked before it.
    for (const [n, timer] of waiting) {
      if (n <= content.n) { clearTimeout(timer); waiting.delete(n); }
    }
    bar.style.display = "none";
  }

  function onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.key === "Tab" || event.key === "Escape") return;
    if (event.key === "Enter" && event.shiftKey) return; // runs the cell
    event.stopPropagation(); // VS Code listens further out
    const target = event.target;
    if (["INPUT", "TEXTAREA", "SELECT"].includes(target.tagName) || target.isContentEditable) return;
    if ([" ", "Enter"].includes(event.key) && target.tagName === "BUTTON") return; // presses the button
    if (!model.get("hotkeys").includes(event.key)) return;
    event.preventDefault(); // arrows would scroll
    if (event.repeat && !event.key.startsWith("Arrow")) return; // a held Enter saves once
    ask({ kind: "key", key: event.key });
  }

  // Buttons and lists are stock widgets, which do not notice that Python is gone: ask on their behalf.
  function onUse() { ask({ kind: "ping" }); }

  // JupyterLab looks for this attribute on the focused element itself; on a box around it, it has no effect.
  function protect() {
    for (const element of [root, ...root.querySelectorAll(FOCUSABLE)]) {
      if (element.getAttribute("data-lm-suppress-shortcuts") !== "true") {
        element.setAttribute("data-lm-suppress-shortcuts", "true");
      }
    }
    // A live region is only spoken if it was in the page before its text changed, so it is set on the lasting box.
    for (const line of root.querySelectorAll(".rlhf-status")) line.setAttribute("aria-live", "polite");
    describe();
  }

  // Stock buttons show that they are pressed by colour only, and nine answers have nine buttons called "1".
  function describe() {
    const set = (element, name, value) => {
      if (element.getAttribute(name) !== value) element.setAttribute(name, value);
    };
    for (const button of root.querySelectorAll(".widget-toggle-button, .widget-toggle-buttons button")) {
      set(button, "aria-pressed", String(button.classList.contains("mod-active")));
    }
    for (const card of root.querySelectorAll(".rlhf-card")) {
      const name = card.querySelector(".rlhf-head b")?.textContent;
      if (!name) continue; // not drawn yet
      set(card, "role", "group");
      set(card, "aria-label", card.querySelector(".rlhf-head").textContent);
      set(card, "aria-current", String(card.classList.contains("rlhf-here")));
      for (const button of card.querySelectorAll(".widget-toggle-buttons button")) {
        set(button, "aria-label", `${name}: ${button.title}`);
      }
    }
    for (const bar of root.querySelectorAll(".progress")) {
      const label = model.get("progress");
      if (!label) continue;
      set(bar, "role", "progressbar");
      set(bar, "aria-label", label);
      set(bar, "aria-valuemin", "0");
      set(bar, "aria-valuemax", "100");
      set(bar, "aria-valuenow", String(Math.round(parseFloat(bar.firstElementChild?.style.width) || 0)));
    }
  }

  function onClick(event) {
    if (event.target.closest("button")) return onUse();
    const card = event.target.closest(".rlhf-card");
    if (!card || event.target.closest("input,textarea,select,a")) return;
    const place = Number([...card.classList].find(name => name.startsWith("rlhf-place-")).slice(11));
    const chosen = selected(card);
    clearTimeout(clicking);
    if (chosen) return ask({ kind: "card", what: "select", place, ...chosen });
    const what = event.shiftKey ? "tie" : "pick";
    // A double click selects a word: wait for it, so that its first half ranks nothing.
    clicking = setTimeout(() => ask({ kind: "card", what, place }), event.target.closest(".rlhf-text") ? 220 : 0);
  }

  // The characters selected in a card's text, counted as Python counts them; null if nothing is selected there.
  function selected(card) {
    const text = card.querySelector(".rlhf-text");
    const chosen = getSelection();
    if (!text || chosen.isCollapsed || !chosen.rangeCount) return null;
    const range = chosen.getRangeAt(0);
    if (!text.contains(range.startContainer) || !text.contains(range.endContainer)) return null;
    const before = document.createRange();
    before.selectNodeContents(text);
    before.setEnd(range.startContainer, range.startOffset);
    const start = [...before.toString()].length;
    return { start, end: start + [...range.toString()].length };
  }

  // Shift and click ties answers; the browser would select all the text in between.
  function onDown(event) { if (event.shiftKey && event.target.closest(".rlhf-card")) event.preventDefault(); }

  function attach() {
    if (stopped) return;
    root = el.closest(".rlhf-root");
    if (!root) { requestAnimationFrame(attach); return; } // not in the page yet
    if (!root.hasAttribute("tabindex")) root.setAttribute("tabindex", "-1"); // a click on text brings the keys here
    root.setAttribute("role", "group");
    root.setAttribute("aria-label", model.get("label"));
    protect();
    observer = new MutationObserver(protect);
    observer.observe(root, { childList: true, subtree: true, attributes: true, attributeFilter: ["class", "style"] });
    root.addEventListener("keydown", onKey);
    root.addEventListener("click", onClick);
    root.addEventListener("mousedown", onDown);
    root.addEventListener("change", onUse);
  }

  model.on("msg:custom", onMessage);
  attach();
  return () => {
    stopped = true;
    model.off("msg:custom", onMessage);
    for (const timer of waiting.values()) clearTimeout(timer);
    if (observer) observer.disconnect();
    if (root) {
      root.removeEventListener("keydown", onKey);
      root.removeEventListener("click", onClick);
      root.removeEventListener("mousedown", onDown);
      root.removeEventListener("change", onUse);
    }
  };
}

export default { render };
