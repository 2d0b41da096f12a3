// 1. A widget's output stands next to a still of it (widget_output.py). Show the still only where the widget does not live.
// 2. For assistive technology, ipywidgets' sliders have no name, and a position instead of a value. Give each slider of
//    an explorer the label of the number box next to it, and the text of its own readout. Tab skips a disabled one.
// 3. JupyterLab uses arrow keys to move between cells, even in radio buttons and lists. Stop that in explorers.
// 4. In a dark theme, the arrow of ipywidgets' lists is black on black. Draw a white one.
(() => {
  if (window.covlabNames) return;
  document.head.appendChild(document.createElement("style")).textContent = `
    .jp-OutputArea-child:has(.covlab-still):has(+ .jp-OutputArea-child .covlab-live),
    .jp-OutputArea-child:has(.covlab-still) + .jp-OutputArea-child:not(:has(.covlab-live)),
    .cell_container:has(.covlab-live) .covlab-still,
    .covlab-number .widget-readout { display: none }
    .jp-Notebook .covlab-number { --jp-widgets-inline-height: 24px }
    .covlab-number .widget-label { flex: 1 1 auto; text-align: left; white-space: normal; height: auto }
    .covlab-number .widget-text input[type="number"] { flex: 0 0 6.5em }
    [data-jp-theme-light="false"] .covlab-explorer { --jp-widgets-dropdown-arrow: url("data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 18 18'%3E%3Cpath fill='none' stroke='white' stroke-width='2' d='M5 7l4 4 4-4'/%3E%3C/svg%3E") }`;  // .cell_container: of VS Code
  const name = handle => {
    const control = handle.closest(".covlab-number"), readout = control.querySelector(".widget-readout");
    handle.setAttribute("aria-label", control.querySelector(".widget-label").textContent + ", slider");
    const say = () => {
      const text = readout?.textContent;
      if (text && handle.getAttribute("aria-valuetext") !== text) handle.setAttribute("aria-valuetext", text);
      handle.tabIndex = handle.closest("[disabled]") ? -1 : 0;
    };
    new MutationObserver(say).observe(control, {subtree: true, childList: true, characterData: true, attributes: true, attributeFilter: ["aria-valuetext", "disabled"]});
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
