// Frequencies beside a spectrogram. Bands are spaced by mel and not by Hz, so a label's place is looked up in the
// centre frequencies that the model gives.

import { el } from "./dom.js";
import { frequency } from "./format.js";

const MARKS_HZ = [200, 500, 1000, 2000, 4000, 8000, 12_000];

/** The height of a frequency, from 0 at the bottom to 1 at the top; null outside of the bands. */
export function heightOf(hz, bandHz) {
  const above = bandHz.findIndex((centre) => centre >= hz);
  if (above === -1) return null;
  if (above === 0) return bandHz[0] === hz ? 0.5 / bandHz.length : null;
  const below = above - 1;
  const part = (hz - bandHz[below]) / (bandHz[above] - bandHz[below]);
  return (below + part + 0.5) / bandHz.length;
}

/** The labels, for the left of a picture of the same height. The picture's description says the range in words. */
export function frequencyAxis(bandHz) {
  const axis = el("div", { class: "frequencies", "aria-hidden": "true" });
  for (const hz of MARKS_HZ) {
    const height = heightOf(hz, bandHz);
    if (height === null) continue;
    const label = el("span", {}, frequency(hz));
    label.style.bottom = `${(height * 100).toFixed(2)}%`;
    axis.append(label);
  }
  return axis;
}
