// The colours of power, as the daemon gives them: the same as those of `hearken spectrogram --plot`.

import { bytesOf } from "./api.js";

/** 256 colours as the words of an ImageData. */
export function paletteOf(base64) {
  const rgb = bytesOf(base64);
  const bytes = new Uint8ClampedArray(256 * 4);
  for (let value = 0; value < 256; value += 1) {
    bytes.set(rgb.subarray(value * 3, value * 3 + 3), value * 4);
    bytes[value * 4 + 3] = 255;
  }
  // A view of the same bytes, so the order of bytes in a word does not matter.
  return new Uint32Array(bytes.buffer);
}
