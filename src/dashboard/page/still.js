// A still spectrogram of one window: the daemon's image of 227x227, grey or of three spectra a
// column, in the palette and with axes.

import { frequencyAxis } from "./axis.js";
import { el } from "./dom.js";
import { paletteOf } from "./palette.js";
import { known } from "./state.js";

/** A figure of the image in a blob. */
export async function stillSpectrogram(blob, description) {
  const { model } = known;
  const canvas = el("canvas", { role: "img", "aria-label": description });
  await paint(canvas, blob, paletteOf(model.palette));
  const times = el("div", { class: "times", "aria-hidden": "true" },
    [0, 1, 2, 3, 4, 5].map((part) => el("span", {}, ((part / 5) * model.window_s).toFixed(1))));
  return el("figure", { class: "still" },
    el("div", { class: "picture" }, frequencyAxis(model.band_hz), el("div", {}, canvas, times)),
    el("figcaption", {}, "Seconds of the window that the network saw"));
}

async function paint(canvas, blob, palette) {
  const image = await createImageBitmap(blob);
  canvas.width = image.width;
  canvas.height = image.height;
  const pen = canvas.getContext("2d");
  pen.drawImage(image, 0, 0);
  const pixels = pen.getImageData(0, 0, image.width, image.height);
  const words = new Uint32Array(pixels.data.buffer);
  for (let at = 0; at < words.length; at += 1) {
    const [red, green, blue] = pixels.data.subarray(at * 4);
    words[at] = palette[Math.max(red, green, blue)];
  }
  pen.putImageData(pixels, 0, 0);
}
