// For assistive technology, ipywidgets' sliders have no name, and a position instead of a value.
// This script gives each slider of an explorer the label of the number box next to it, and the text of its own readout.
// JupyterLab uses arrow keys to move between cells, even in radio buttons and lists; the script stops that in explorers.
(() => {
  if (window.covlabNames) return;
  const name = handle => {
    const control = handle.closest(".covlab-number"), readout = control.querySelector(".widget-readout");
    if (readout) readout.contentEditable = "false";  // the box is where to type
    handle.setAttribute("aria-label", control.querySelector(".widget-label").textContent + ", slider");
    const say = () => {
      const text = readout?.textContent;
      if (text && handle.getAttribute("aria-valuetext") !== text) handle.setAttribute("aria-valuetext", text);
    };
    new MutationObserver(say).observe(control, {subtree: true, childList: true, characterData: true, attributes: true, attributeFilter: ["aria-valuetext"]});
    say();
  };
  const look = () => {
    document.querySelectorAll(".covlab-number .noUi-handle:not([aria-label])").forEach(name);
    const own = ["select", "input", ".noUi-handle"].map(kind => `.covlab-explorer ${kind}:not([data-lm-suppress-shortcuts])`);
    document.querySelectorAll(own.join()).forEach(each => each.setAttribute("data-lm-suppress-shortcuts", "true"));
  };
  window.covlabNames = new MutationObserver(look);
  window.covlabNames.observe(document.body, {subtree: true, childList: true});
  look();
})();
