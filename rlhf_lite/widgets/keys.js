// Hotkeys for a box of stock widgets, and a warning when Python no longer answers.
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
      warn("\u26A0 Python was restarted or has stopped. Run this cell again; everything you saved is safe.");
      return;
    }
    waiting.set(n, setTimeout(() => warn("\u26A0 No answer from Python. It is busy, or it was restarted. If this " +
      "bar stays, run this cell again; everything you saved is safe."), PATIENCE));
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
    if (event.key === "Enter" && target.tagName === "BUTTON") return; // presses the button
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
  }

  function onClick(event) { if (event.target.closest("button")) onUse(); }

  function attach() {
    if (stopped) return;
    root = el.closest(".rlhf-root");
    if (!root) { requestAnimationFrame(attach); return; } // not in the page yet
    if (!root.hasAttribute("tabindex")) root.setAttribute("tabindex", "-1"); // a click on text brings the keys here
    root.setAttribute("role", "group");
    root.setAttribute("aria-label", model.get("label"));
    protect();
    observer = new MutationObserver(protect);
    observer.observe(root, { childList: true, subtree: true });
    root.addEventListener("keydown", onKey);
    root.addEventListener("click", onClick);
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
      root.removeEventListener("change", onUse);
    }
  };
}

export default { render };
