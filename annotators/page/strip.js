// What lies before and after a frame: thumbnails of neighbors, a line of the whole video, the loop.

import { clamp } from "/shapes.js";
import { pictureAddress } from "/server.js";

const [LOOP, THUMB] = [1, 2];
const WIDTH = 92; // CSS pixels of a thumbnail, about

const pictures = new Map();

// An image of a frame that loads by itself; the same one whenever it is asked for.
export function picture(desk, video, frame, size, stamp) {
  const key = [stamp, desk, video, frame, size].join(" ");
  let image = pictures.get(key);
  if (!image || image.failed) {
    image = new Image();
    image.onerror = () => { image.failed = true; };
    image.src = pictureAddress(desk, video, frame, size);
  }
  pictures.delete(key);
  pictures.set(key, image);
  if (pictures.size > 600) pictures.delete(pictures.keys().next().value);
  return image;
}

export function clock(seconds) {
  const sign = seconds < 0 ? "−" : "";
  const whole = Math.abs(seconds);
  return `${sign}${Math.floor(whole / 60)}:${(whole % 60).toFixed(2).padStart(5, "0")}`;
}

// When frames of a video are shown; guessed as 25 a second until the server has said.
export class Times {
  constructor(seconds, count) {
    this.seconds = seconds;
    this.count = count;
  }

  at(frame) {
    return this.seconds ? this.seconds[clamp(frame, 0, this.seconds.length - 1)] : frame / 25;
  }

  // The last frame that is shown at this time or before.
  frameAt(time) {
    if (!this.seconds) return clamp(Math.round(time * 25), 0, this.count - 1);
    let [low, high] = [0, this.seconds.length - 1];
    while (low < high) {
      const middle = Math.ceil((low + high) / 2);
      if (this.seconds[middle] <= time + 1e-6) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  // [first, last] of the frames within a second of this one.
  around(frame) {
    const time = this.at(frame);
    const first = this.frameAt(time - 1);
    return [this.at(first) < time - 1.0001 ? first + 1 : first, this.frameAt(time + 1)];
  }
}

export class Strip {
  constructor(element, timeline, look) {
    this.element = element;
    this.timeline = timeline;
    this.look = look;
    this.what = null;
    const repaint = () => this.what && this.show(this.what);
    new ResizeObserver(repaint).observe(element);
    const scrub = (event) => {
      if (!this.what || !(event.buttons & 1)) return;
      const place = timeline.getBoundingClientRect();
      const [from, to] = this.range();
      const part = clamp((event.clientX - place.left) / place.width, 0, 1);
      this.look(clamp(Math.floor(from + part * (to - from)), 0, this.what.of - 1));
    };
    timeline.addEventListener("pointerdown", scrub);
    timeline.addEventListener("pointermove", scrub);
  }

  // what: {desk, v, stamp, first, frames, of, times, looked, asked (frame), marks [{frame, kind}],
  // parts, begun, ratio}
  show(what) {
    this.what = what;
    const count = Math.max(3, Math.floor(this.element.clientWidth / WIDTH)) | 1;
    const [first, last] = what.times.around(what.looked);
    const half = (count - 1) / 2;
    const wanted = [];
    const spread = (end, sign) => {
      const steps = Math.abs(end - what.looked);
      for (let place = 1; place <= half; place++) {
        const away = steps <= half ? place : Math.round((place * steps) / half);
        wanted.push(away <= steps ? what.looked + sign * away : null);
      }
    };
    spread(first, -1);
    wanted.reverse();
    wanted.push(what.looked);
    spread(last, 1);
    this.element.replaceChildren(...wanted.map((frame) => this.thumbnail(frame)));
    this.paint();
  }

  thumbnail(frame) {
    const { what } = this;
    const button = document.createElement("button");
    button.type = "button";
    button.tabIndex = -1;
    if (frame === null) {
      button.disabled = true;
      return button;
    }
    const image = picture(what.desk, what.v, frame, THUMB, what.stamp).cloneNode();
    image.alt = "";
    image.draggable = false;
    const away = what.times.at(frame) - what.times.at(what.asked);
    const label = document.createElement("span");
    label.textContent = frame === what.asked ? `${frame}` : `${frame} · ${away < 0 ? "−" : "+"}${Math.abs(away).toFixed(2)} s`;
    button.append(image, label);
    button.title = `frame ${frame}, ${clock(what.times.at(frame))}`;
    button.className = (frame === what.asked ? "asked " : "") + (frame === what.looked ? "looked" : "");
    button.addEventListener("click", () => this.look(frame));
    return button;
  }

  range() {
    const { what } = this;
    const whole = what.frames === what.of;
    const margin = whole ? 0 : Math.round(what.frames / 10);
    return [Math.max(0, what.first - margin), Math.min(what.of, what.first + what.frames + margin)];
  }

  paint() {
    const { what, timeline } = this;
    const ratio = devicePixelRatio || 1;
    const [width, height] = [timeline.clientWidth, 26];
    timeline.width = Math.round(width * ratio);
    timeline.height = Math.round(height * ratio);
    const context = timeline.getContext("2d");
    context.scale(ratio, ratio);
    const [from, to] = this.range();
    const x = (frame) => ((frame - from) / (to - from)) * width;
    context.fillStyle = "#2a323a";
    context.fillRect(0, 8, width, 12);
    context.fillStyle = "#3b4650";
    context.fillRect(x(what.first), 8, x(what.first + what.frames) - x(what.first), 12);
    for (const part of what.parts) {
      context.fillStyle = "#5ee08a88";
      context.fillRect(x(part.first), 8, Math.max(x(part.end) - x(part.first), 2), 12);
    }
    if (what.begun !== null) {
      context.fillStyle = "#5ee08a";
      context.fillRect(x(what.begun), 5, 2, 18);
    }
    for (const mark of what.marks) {
      context.fillStyle = { before: "#8fa1b3", done: "#5ee08a", open: "#ffb000", skipped: "#ff8a5c" }[mark.kind];
      context.fillRect(x(mark.frame + 0.5) - 1.5, 8, 3, 12);
    }
    const at = x(what.looked + 0.5);
    context.fillStyle = "#fff";
    context.fillRect(at - 1, 4, 2, 20);
    context.beginPath();
    context.moveTo(at - 5, 0);
    context.lineTo(at + 5, 0);
    context.lineTo(at, 7);
    context.fill();
  }
}

// Plays the second before and after a frame, at the video's own pace.
export class Loop {
  // show(image, frame): an image of LOOP size, null at the end
  constructor(show) {
    this.show = show;
    this.timer = 0;
  }

  get running() {
    return this.timer !== 0;
  }

  start(desk, v, stamp, frame, times) {
    const [first, last] = times.around(frame);
    let at = first;
    const step = () => {
      const image = picture(desk, v, at, LOOP, stamp);
      const ready = image.complete && image.naturalWidth > 0;
      if (ready) this.show(image, at);
      if (!ready && !image.failed) {
        this.timer = setTimeout(step, 20);
        return;
      }
      const next = at < last ? at + 1 : first;
      const pause = at < last ? times.at(next) - times.at(at) : 0.3;
      at = next;
      this.timer = setTimeout(step, 1000 * clamp(pause, 0.01, 0.5));
    };
    for (let k = first; k <= last; k++) picture(desk, v, k, LOOP, stamp);
    this.timer = setTimeout(step, 0);
  }

  stop() {
    if (!this.running) return;
    clearTimeout(this.timer);
    this.timer = 0;
    this.show(null, 0);
  }
}
