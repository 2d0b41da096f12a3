// Show one slide at a time; the address remembers which, so that a reload stays there.
const slides = [...document.querySelectorAll("section")];
const footer = document.querySelector("footer");
let here = 0;
function show(number) {
  here = Math.min(Math.max(number, 0), slides.length - 1);
  slides.forEach((slide, each) => slide.classList.toggle("here", each === here));
  footer.textContent = `${here + 1} / ${slides.length}`;
  history.replaceState(null, "", `#${here + 1}`);
  window.scrollTo(0, 0);
}
const turns = {
  ArrowRight: () => here + 1, ArrowDown: () => here + 1, PageDown: () => here + 1,
  ArrowLeft: () => here - 1, ArrowUp: () => here - 1, PageUp: () => here - 1,
  Home: () => 0, End: () => slides.length - 1,
};
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const outcome = slides[here].querySelector("details");
  if (event.key === " " && outcome) {
    outcome.open = !outcome.open;
  } else if (turns[event.key]) {
    show(turns[event.key]());
  } else {
    return;
  }
  event.preventDefault();
});
document.body.classList.add("shown");
show((parseInt(location.hash.slice(1)) || 1) - 1);
