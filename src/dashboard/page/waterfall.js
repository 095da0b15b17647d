// A scrolling spectrogram on a canvas. Columns come in half-second lots and are kept in a ring on a second canvas; the
// picture follows behind the newest of them at an even speed, so that it glides. One column is one CSS pixel wide and
// one band one CSS pixel high: nothing is resampled.

import { clock, sound } from "./format.js";

const CAPACITY = 1200;
const TIMES_PX = 20;
const LABEL_PX = 17;
// Between the newest column and the picture's right edge, on average: half a lot, and some for late ones.
const LAG = 22;
const LAG_MAX = 90;
const GAP_MS = 300;

export class Waterfall {
  #canvas;
  #pen;
  #ring;
  #ringPen;
  #palette;
  #bands;
  #columnMs;
  #calm = matchMedia("(prefers-reduced-motion: reduce)");
  #width = 0;
  #newest = 0;
  #head = 0;
  #endMs = null;
  #sounds = [];
  #lastDraw = 0;
  #drawnAt = -1;
  #ink = "";

  constructor(canvas, palette, model) {
    this.#canvas = canvas;
    this.#pen = canvas.getContext("2d");
    this.#palette = palette;
    this.#bands = model.bands;
    this.#columnMs = (model.window_s * 1000) / model.columns;
    this.#ring = document.createElement("canvas");
    this.#ring.width = CAPACITY;
    this.#ring.height = model.bands;
    this.#ringPen = this.#ring.getContext("2d");
    canvas.style.height = `${model.bands + TIMES_PX}px`;
  }

  /** Takes the size and colours of the page over; to be called after either has changed. */
  fit() {
    const scale = devicePixelRatio;
    this.#width = Math.floor(this.#canvas.clientWidth);
    this.#canvas.width = Math.round(this.#width * scale);
    this.#canvas.height = Math.round((this.#bands + TIMES_PX) * scale);
    this.#ink = getComputedStyle(this.#canvas).color;
    this.#drawnAt = -1;
  }

  /** Adds whole columns, oldest first, each from the lowest band up; `at` is when the last of them ended. */
  push(bytes, at) {
    bytes = this.#fresh(bytes, at);
    const columns = Math.min(Math.floor(bytes.length / this.#bands), CAPACITY);
    if (columns === 0) return;
    this.#follow(at - columns * this.#columnMs);
    const picture = new ImageData(columns, this.#bands);
    const pixels = new Uint32Array(picture.data.buffer);
    for (let column = 0; column < columns; column += 1) {
      for (let band = 0; band < this.#bands; band += 1) {
        const row = this.#bands - 1 - band;
        pixels[row * columns + column] = this.#palette[bytes[column * this.#bands + band]];
      }
    }
    const place = this.#newest % CAPACITY;
    this.#ringPen.putImageData(picture, place, 0);
    // What stuck out on the right belongs to the ring's beginning.
    this.#ringPen.putImageData(picture, place - CAPACITY, 0);
    this.#newest += columns;
    this.#endMs += columns * this.#columnMs;
  }

  /** The sounds to mark: those that are on, and those that were. */
  mark(sounds) {
    this.#sounds = sounds;
    this.#drawnAt = -1;
  }

  /** Draws if anything has moved by a pixel; `now` is the time of the frame. */
  draw(now) {
    const scale = devicePixelRatio;
    this.#advance(now);
    const edge = Math.round(this.#head * scale);
    if (edge === this.#drawnAt || this.#width === 0) return;
    this.#drawnAt = edge;
    const right = edge / scale;
    this.#pen.setTransform(scale, 0, 0, scale, 0, 0);
    this.#pen.imageSmoothingEnabled = false;
    this.#pen.clearRect(0, 0, this.#width, this.#bands + TIMES_PX);
    this.#drawColumns(right - this.#width, right);
    this.#drawTimes(right);
    this.#drawSounds(right);
  }

  // Whenever somebody begins to look, everybody is sent a whole window: of it, only what is not known yet.
  #fresh(bytes, at) {
    if (this.#endMs === null) return bytes;
    const freshMs = at - this.#endMs;
    const knownMs = (bytes.length / this.#bands) * this.#columnMs - freshMs;
    if (freshMs <= 0 || knownMs < GAP_MS) return bytes;
    return bytes.subarray(bytes.length - Math.max(1, Math.round(freshMs / this.#columnMs)) * this.#bands);
  }

  // Small differences to the daemon's clock are drift and are ironed out. A larger one is a gap, which is left empty,
  // or a clock that was set back, which begins anew behind a narrow one.
  #follow(beginMs) {
    const ahead = this.#endMs === null ? 0 : beginMs - this.#endMs;
    if (this.#endMs !== null && Math.abs(ahead) < GAP_MS) {
      this.#endMs += ahead * 0.1;
      return;
    }
    this.#endMs = beginMs;
    this.#leaveEmpty(ahead < 0 ? 10 : Math.min(CAPACITY, Math.round(ahead / this.#columnMs)));
  }

  #leaveEmpty(columns) {
    const place = this.#newest % CAPACITY;
    this.#ringPen.clearRect(place, 0, columns, this.#bands);
    this.#ringPen.clearRect(place - CAPACITY, 0, columns, this.#bands);
    this.#newest += columns;
  }

  #advance(now) {
    const passed = Math.min(now - this.#lastDraw, 1000);
    this.#lastDraw = now;
    const lag = this.#newest - this.#head;
    if (this.#calm.matches) {
      this.#head = this.#newest;
    } else if (lag > LAG_MAX) {
      this.#head = this.#newest - LAG;
    } else {
      // A little faster when behind and slower when ahead: no jumps.
      const speed = Math.min(1.3, Math.max(0.7, 1 + (lag - LAG) / 100));
      this.#head = Math.min(this.#newest, this.#head + (passed / this.#columnMs) * speed);
    }
  }

  #drawColumns(left, right) {
    const end = Math.min(Math.ceil(right), this.#newest);
    let column = Math.max(Math.floor(left), this.#newest - CAPACITY, 0);
    while (column < end) {
      const place = column % CAPACITY;
      const run = Math.min(end - column, CAPACITY - place);
      this.#pen.drawImage(this.#ring, place, 0, run, this.#bands, column - left, 0, run, this.#bands);
      column += run;
    }
  }

  #timeAt(right) {
    return this.#endMs - (this.#newest - right) * this.#columnMs;
  }

  #drawTimes(right) {
    if (this.#endMs === null) return;
    const step = this.#width < 500 ? 2000 : 5000;
    const now = this.#timeAt(right);
    const first = Math.ceil((now - this.#width * this.#columnMs) / step) * step;
    this.#pen.fillStyle = this.#ink;
    this.#pen.font = "11px system-ui, sans-serif";
    this.#pen.textAlign = "center";
    this.#pen.textBaseline = "bottom";
    for (let time = first; time <= now; time += step) {
      const x = this.#width - (now - time) / this.#columnMs;
      this.#pen.fillRect(Math.round(x), this.#bands, 1, 4);
      if (x > 26 && x < this.#width - 26) this.#pen.fillText(clock(time), x, this.#bands + TIMES_PX);
    }
  }

  #drawSounds(right) {
    if (this.#endMs === null) return;
    const now = this.#timeAt(right);
    const xOf = (time) => this.#width - (now - new Date(time)) / this.#columnMs;
    this.#pen.font = "600 12px system-ui, sans-serif";
    this.#pen.textAlign = "left";
    this.#pen.textBaseline = "middle";
    const ends = [];
    for (const heard of this.#sounds) {
      const from = Math.max(0, xOf(heard.start));
      const to = heard.end === null ? this.#width : Math.min(this.#width, xOf(heard.end));
      const labelEnd = from + this.#pen.measureText(sound(heard.class)).width + 12;
      if (to <= 0 || from >= this.#width) continue;
      // Sounds at the same time are marked one below the other.
      const row = ends.findIndex((end) => end < from);
      const y = (row === -1 ? ends.length : row) * LABEL_PX;
      ends[y / LABEL_PX] = Math.max(to, labelEnd);
      this.#drawMark(from, to, y, labelEnd, heard);
    }
  }

  #drawMark(from, to, y, labelEnd, heard) {
    this.#pen.fillStyle = "rgb(255 255 255 / 75%)";
    this.#pen.fillRect(from, y, 1, this.#bands - y);
    if (heard.end !== null) this.#pen.fillRect(to - 1, y, 1, this.#bands - y);
    this.#pen.fillStyle = "#ffffff";
    this.#pen.fillRect(from, y, to - from, 2);
    this.#pen.fillRect(from, y, labelEnd - from, LABEL_PX - 1);
    this.#pen.fillStyle = "#1d1147";
    this.#pen.fillText(sound(heard.class), from + 6, y + LABEL_PX / 2);
  }
}
