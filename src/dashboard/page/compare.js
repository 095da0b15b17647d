// Two pictures of the same size on top of each other, with a divider. The divider is a range input over the whole
// picture: so mouse, finger and arrow keys work without code of our own.

import { el } from "./dom.js";

/** Shows the one left of the divider, the other right of it. */
export function compare(beforeUrl, afterUrl) {
  const before = el("img", { src: beforeUrl, alt: "The photo as it was", class: "before" });
  const after = el("img", { src: afterUrl, alt: "The corrected photo" });
  const divider = el("div", { class: "divider" });
  const slider = el("input", {
    type: "range", min: "0", max: "100", value: "50", step: "1", "aria-label": "Part that is shown as it was, in percent",
  });
  const box = el("div", { class: "compare" }, after, before, divider,
    el("span", { class: "tag left" }, "Before"), el("span", { class: "tag right" }, "After"), slider);

  function place() {
    before.style.clipPath = `inset(0 ${100 - slider.value}% 0 0)`;
    divider.style.left = `${slider.value}%`;
  }
  slider.addEventListener("input", place);
  place();
  // TIFF is shown by few browsers.
  for (const image of [before, after]) {
    image.addEventListener("error", () => box.replaceChildren(
      el("p", { class: "note" }, "This browser cannot show this kind of picture. It can be downloaded all the same.")));
  }
  return box;
}
