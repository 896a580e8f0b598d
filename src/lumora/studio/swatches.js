// Gradio's buttons for the colours of a brush have no names: each gets that of the class in the legend below them.
(() => {
  const numbers = (colour) => (colour.match(/\d+/g) || []).slice(0, 3).join(",");
  const put = (button, name, value) => button.getAttribute(name) === value || button.setAttribute(name, value);
  const callThem = () => {
    const buttons = document.querySelectorAll("#results-editor .swatch button.color");
    if (!buttons.length) return;
    const legend = [...document.querySelectorAll("#results-legend [data-colour]")];
    const names = new Map(legend.map((each) => [each.dataset.colour, each.textContent.trim()]));
    for (const button of buttons) {
      const name = names.get(numbers(button.style.backgroundColor));
      if (name) ["aria-label", "title"].forEach((key) => put(button, key, name));
      put(button, "aria-pressed", String(button.classList.contains("selected")));
    }
  };
  let waiting = false;
  const soon = () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; callThem(); });
  };
  const seen = { subtree: true, childList: true, attributes: true, attributeFilter: ["class"] };
  new MutationObserver(soon).observe(document.documentElement, seen);
})();
