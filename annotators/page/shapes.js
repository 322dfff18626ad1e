// Geometry of labels, in pixels of the picture: boxes [x, y, width, height], polygons, masks.

export const COLORS = ["#4cc2ff", "#ffb000", "#5ee08a", "#ff7ac6", "#b9a1ff", "#ff8a5c", "#e8e36a", "#7fe3d4"];

export function colorOf(track) {
  return COLORS[(track - 1) % COLORS.length];
}

export function clamp(value, low, high) {
  return Math.min(Math.max(value, low), high);
}

// Box of an actor, whatever marks it.
export function boxOf(actor) {
  if (actor.box) return actor.box;
  if (actor.polygons) {
    const corners = actor.polygons.flat();
    const xs = corners.map((corner) => corner[0]);
    const ys = corners.map((corner) => corner[1]);
    const x = Math.min(...xs);
    const y = Math.min(...ys);
    return [x, y, Math.max(...xs) - x, Math.max(...ys) - y];
  }
  return maskPicture(actor.mask, "#fff").box;
}

export function centerOf(actor) {
  const [x, y, width, height] = boxOf(actor);
  return [x + width / 2, y + height / 2];
}

export function distance(a, b) {
  return Math.hypot(a[0] - b[0], a[1] - b[1]);
}

export function iou(a, b) {
  const width = Math.min(a[0] + a[2], b[0] + b[2]) - Math.max(a[0], b[0]);
  const height = Math.min(a[1] + a[3], b[1] + b[3]) - Math.max(a[1], b[1]);
  if (width <= 0 || height <= 0) return 0;
  return (width * height) / (a[2] * a[3] + b[2] * b[3] - width * height);
}

export function inside(box, point) {
  return point[0] >= box[0] && point[1] >= box[1] && point[0] <= box[0] + box[2] && point[1] <= box[1] + box[3];
}

// The box between two points, on whole pixels and within the picture.
export function boxBetween(from, to, width, height) {
  const x0 = clamp(Math.round(Math.min(from[0], to[0])), 0, width);
  const y0 = clamp(Math.round(Math.min(from[1], to[1])), 0, height);
  const x1 = clamp(Math.round(Math.max(from[0], to[0])), 0, width);
  const y1 = clamp(Math.round(Math.max(from[1], to[1])), 0, height);
  return [x0, y0, x1 - x0, y1 - y0];
}

// A box whose edges (a text of n, s, w, e) are moved; it keeps a pixel at least.
export function resized(box, edges, dx, dy, width, height) {
  let [x0, y0, x1, y1] = [box[0], box[1], box[0] + box[2], box[1] + box[3]];
  if (edges.includes("w")) x0 += dx;
  if (edges.includes("e")) x1 += dx;
  if (edges.includes("n")) y0 += dy;
  if (edges.includes("s")) y1 += dy;
  const moved = boxBetween([x0, y0], [x1, y1], width, height);
  return [moved[0], moved[1], Math.max(moved[2], 1), Math.max(moved[3], 1)];
}

// An actor moved by whole pixels, within the picture.
export function moved(actor, dx, dy, width, height) {
  const [x, y, w, h] = boxOf(actor);
  dx = clamp(Math.round(dx), -x, width - x - w);
  dy = clamp(Math.round(dy), -y, height - y - h);
  if (actor.box) return { ...actor, box: [x + dx, y + dy, w, h] };
  if (!actor.polygons) return actor; // a proposed mask stays where it is
  const polygons = actor.polygons.map((corners) => corners.map((corner) => [corner[0] + dx, corner[1] + dy]));
  return { ...actor, polygons };
}

export function sameShape(a, b) {
  const of = (actor) => JSON.stringify([actor.box, actor.polygons, actor.mask]);
  return of(a) === of(b);
}

const pictures = new Map();

// Run lengths, column by column -> {canvas in a color, box}.
export function maskPicture(mask, color) {
  const key = color + JSON.stringify(mask);
  if (pictures.has(key)) return pictures.get(key);
  const [height, width] = mask.size;
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d");
  const picture = context.createImageData(width, height);
  const [red, green, blue] = [1, 3, 5].map((at) => parseInt(color.padEnd(7, "f").slice(at, at + 2), 16));
  let place = 0;
  let [x0, y0, x1, y1] = [width, height, 0, 0];
  mask.counts.forEach((count, number) => {
    for (let end = place + count; place < end; place++) {
      if (number % 2 === 0) continue;
      const x = Math.floor(place / height);
      const y = place % height;
      picture.data.set([red, green, blue, 255], 4 * (y * width + x));
      x0 = Math.min(x0, x);
      x1 = Math.max(x1, x + 1);
      y0 = Math.min(y0, y);
      y1 = Math.max(y1, y + 1);
    }
  });
  context.putImageData(picture, 0, 0);
  const made = { canvas, box: [x0, y0, x1 - x0, y1 - y0] };
  if (pictures.size > 200) pictures.clear();
  pictures.set(key, made);
  return made;
}

// ------------------------------------------------------------------------------ who is who

// Frames of the same video with actors, the nearest first: [{frame, actors}].
export function nearestLabeled(frames, frame) {
  const labeled = frames.filter((one) => one.frame !== frame && one.actors.length);
  return labeled.sort((a, b) => Math.abs(a.frame - frame) - Math.abs(b.frame - frame));
}

// The track of a new actor: that of the nearest free one in the nearest labeled frame, or a new
// number. here: the actors that the frame has already.
export function suggestTrack(actor, here, frames, frame) {
  const used = new Set(here.map((one) => one.track));
  const nearest = nearestLabeled(frames, frame)[0];
  const free = nearest ? nearest.actors.filter((one) => !used.has(one.track)) : [];
  if (free.length) {
    const at = centerOf(actor);
    free.sort((a, b) => distance(centerOf(a), at) - distance(centerOf(b), at));
    return free[0].track;
  }
  return newTrack(here, frames);
}

export function newTrack(here, frames) {
  const all = [...here, ...frames.flatMap((one) => one.actors)];
  return Math.max(0, ...all.map((one) => one.track)) + 1;
}

// {frame, pixels} where an actor is farther from where its track was than it can have come, or null.
export function jump(actor, frames, frame) {
  const before = nearestLabeled(frames, frame).find((one) => one.actors.some((other) => other.track === actor.track));
  if (!before) return null;
  const other = before.actors.find((one) => one.track === actor.track);
  const [box, old] = [boxOf(actor), boxOf(other)];
  const pixels = distance(centerOf(actor), centerOf(other));
  const size = Math.max(box[2], box[3], old[2], old[3]);
  const gap = Math.abs(before.frame - frame);
  return iou(box, old) === 0 && pixels > size * (1 + gap / 12) ? { frame: before.frame, pixels: Math.round(pixels) } : null;
}
