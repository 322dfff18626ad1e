// The picture and the labels on it: zoom, drawing, moving, resizing, corners of polygons.

import { boxBetween, boxOf, clamp, colorOf, inside, maskPicture, moved, resized } from "/shapes.js";

const GRIP = 7; // CSS pixels around a handle or an edge that grab it
const DRAG = 4; // CSS pixels from which a click is a drag
const MOST = 40; // screen pixels of one pixel

export class Stage {
  // on: {drawn(shape), changed(index, actor, over), selected(index), touched(), proposal(index)}
  constructor(canvas, on) {
    this.canvas = canvas;
    this.on = on;
    this.context = canvas.getContext("2d");
    this.shown = { image: null, width: 1, height: 1, actors: [], proposals: [], ghosts: [], selected: -1, marks: "boxes", still: true };
    this.view = { scale: 1, x: 0, y: 0, fitted: true };
    this.drag = null;
    this.corners = null; // of the polygon that is being drawn
    this.pointers = new Map();
    this.mouse = null;
    new ResizeObserver(() => this.resize()).observe(canvas);
    const listen = (name, what, options) => canvas.addEventListener(name, what.bind(this), options);
    listen("pointerdown", this.down);
    listen("pointermove", this.move);
    listen("pointerup", this.up);
    listen("pointercancel", this.cancel);
    listen("pointerleave", () => { this.mouse = null; this.draw(); });
    listen("wheel", this.wheel, { passive: false });
    listen("dblclick", this.double);
    listen("contextmenu", (event) => event.preventDefault());
    this.resize();
  }

  show(what) {
    const other = what.width !== this.shown.width || what.height !== this.shown.height;
    this.shown = { ...this.shown, ...what };
    if (other && what.width) this.fit();
    this.draw();
  }

  // ------------------------------------------------------------------------------------ view

  resize() {
    const { clientWidth, clientHeight } = this.canvas;
    const ratio = devicePixelRatio || 1;
    this.canvas.width = Math.round(clientWidth * ratio);
    this.canvas.height = Math.round(clientHeight * ratio);
    if (this.view.fitted) this.fit();
    this.draw();
  }

  fit() {
    const margin = 10;
    const { width, height } = this.shown;
    const [across, down] = [this.canvas.clientWidth - 2 * margin, this.canvas.clientHeight - 2 * margin];
    const scale = Math.max(Math.min(across / width, down / height), 0.01);
    const x = (this.canvas.clientWidth - scale * width) / 2;
    const y = (this.canvas.clientHeight - scale * height) / 2;
    this.view = { scale, x, y, fitted: true };
    this.draw();
  }

  zoom(factor, at) {
    at = at || [this.canvas.clientWidth / 2, this.canvas.clientHeight / 2];
    const point = this.toPicture(at);
    const scale = clamp(this.view.scale * factor, 0.02, MOST);
    this.view = { scale, x: at[0] - scale * point[0], y: at[1] - scale * point[1], fitted: false };
    this.draw();
  }

  pan(dx, dy) {
    const { scale, x, y } = this.view;
    const keep = 40; // CSS pixels of the picture stay in sight
    const left = clamp(x + dx, keep - scale * this.shown.width, this.canvas.clientWidth - keep);
    const top = clamp(y + dy, keep - scale * this.shown.height, this.canvas.clientHeight - keep);
    this.view = { scale, x: left, y: top, fitted: false };
    this.draw();
  }

  toPicture([x, y]) {
    return [(x - this.view.x) / this.view.scale, (y - this.view.y) / this.view.scale];
  }

  toScreen([x, y]) {
    return [x * this.view.scale + this.view.x, y * this.view.scale + this.view.y];
  }

  // --------------------------------------------------------------------------------- pointers

  at(event) {
    const place = this.canvas.getBoundingClientRect();
    return [event.clientX - place.left, event.clientY - place.top];
  }

  down(event) {
    const at = this.at(event);
    this.canvas.focus({ preventScroll: true });
    this.canvas.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, at);
    this.on.touched();
    if (this.pointers.size === 2) {
      this.drag = { kind: "pinch" };
      return this.draw();
    }
    const panning = event.button !== 0 || event.shiftKey || this.shown.still;
    if (panning) {
      this.drag = { kind: "pan", last: at };
    } else if (this.shown.marks === "masks") {
      this.downOnMasks(at);
    } else {
      this.downOnBoxes(at);
    }
    this.draw();
  }

  downOnBoxes(at) {
    const edges = this.handleAt(at);
    const { actors, selected } = this.shown;
    if (edges) {
      this.drag = { kind: "resize", edges, from: at, index: selected, actor: actors[selected] };
      return;
    }
    const index = this.edgeAt(at);
    if (index >= 0) {
      this.on.selected(index);
      this.drag = { kind: "move", from: at, index, actor: actors[index] };
      return;
    }
    this.drag = { kind: "draw", from: at, to: at };
  }

  downOnMasks(at) {
    if (this.corners) {
      const first = this.toScreen(this.corners[0]);
      const close = Math.hypot(first[0] - at[0], first[1] - at[1]) <= GRIP + 2;
      if (close && this.corners.length > 2) return this.closePolygon();
      this.corners.push(this.snapped(at));
      return;
    }
    const corner = this.cornerAt(at);
    const { actors, selected } = this.shown;
    if (corner) {
      const actor = structuredClone(actors[selected]);
      if (corner.added) actor.polygons[corner.part].splice(corner.place, 0, this.snapped(at));
      this.drag = { kind: "corner", ...corner, index: selected, actor };
      return;
    }
    const index = this.edgeAt(at);
    if (index >= 0) {
      this.on.selected(index);
      this.drag = { kind: "move", from: at, index, actor: actors[index] };
      return;
    }
    this.corners = [this.snapped(at)];
  }

  move(event) {
    const at = this.at(event);
    this.mouse = at;
    if (this.pointers.has(event.pointerId)) {
      if (this.drag?.kind === "pinch") this.pinch(event.pointerId, at);
      this.pointers.set(event.pointerId, at);
    }
    const drag = this.drag;
    const { width, height } = this.shown;
    if (drag?.kind === "pan") {
      this.pan(at[0] - drag.last[0], at[1] - drag.last[1]);
      drag.last = at;
    } else if (drag?.kind === "draw") {
      drag.to = at;
    } else if (drag && drag.from) {
      const [dx, dy] = [(at[0] - drag.from[0]) / this.view.scale, (at[1] - drag.from[1]) / this.view.scale];
      drag.far = drag.far || Math.hypot(at[0] - drag.from[0], at[1] - drag.from[1]) > 2;
      if (drag.far) {
        const actor = drag.kind === "move" ? moved(drag.actor, dx, dy, width, height)
          : { ...drag.actor, box: resized(drag.actor.box, drag.edges, dx, dy, width, height) };
        this.on.changed(drag.index, actor, false);
      }
    } else if (drag?.kind === "corner") {
      drag.actor = structuredClone(drag.actor);
      drag.actor.polygons[drag.part][drag.place] = this.snapped(at);
      drag.far = true;
      this.on.changed(drag.index, drag.actor, false);
    }
    this.cursor(at);
    this.draw();
  }

  up(event) {
    const drag = this.drag;
    this.pointers.delete(event.pointerId);
    this.drag = null;
    if (drag?.kind === "draw") {
      const far = Math.max(Math.abs(drag.to[0] - drag.from[0]), Math.abs(drag.to[1] - drag.from[1])) >= DRAG;
      const box = boxBetween(this.toPicture(drag.from), this.toPicture(drag.to), this.shown.width, this.shown.height);
      if (far && box[2] > 0 && box[3] > 0) this.on.drawn({ box });
      else if (!far) this.click(drag.from);
    } else if (drag?.far) {
      this.on.changed(drag.index, null, true);
    }
    this.draw();
  }

  cancel(event) {
    this.pointers.delete(event.pointerId);
    if (this.drag?.far) this.on.changed(this.drag.index, null, true);
    this.drag = null;
    this.draw();
  }

  pinch(id, at) {
    const other = [...this.pointers].find(([key]) => key !== id)?.[1];
    const before = this.pointers.get(id);
    if (!other) return;
    const spread = (point) => Math.hypot(point[0] - other[0], point[1] - other[1]);
    this.zoom(spread(at) / Math.max(spread(before), 1), [(at[0] + other[0]) / 2, (at[1] + other[1]) / 2]);
    this.pan((at[0] - before[0]) / 2, (at[1] - before[1]) / 2);
  }

  wheel(event) {
    event.preventDefault();
    const lines = event.deltaMode === 1 ? 24 : 1;
    this.zoom(Math.exp(-event.deltaY * lines * 0.002), this.at(event));
  }

  // A click that draws nothing chooses the smallest label under it, or none.
  click(at) {
    const point = this.toPicture(at);
    const under = this.shown.actors
      .map((actor, index) => ({ index, box: boxOf(actor) }))
      .filter(({ box }) => inside(box, point))
      .sort((a, b) => a.box[2] * a.box[3] - b.box[2] * b.box[3]);
    this.on.selected(under.length ? under[0].index : -1);
  }

  double(event) {
    if (this.corners?.length > 2) {
      this.corners.pop(); // the second press of the double click
      if (this.corners.length > 2) this.closePolygon();
      event.preventDefault();
    }
  }

  closePolygon() {
    const corners = this.corners;
    this.corners = null;
    if (corners && corners.length > 2) this.on.drawn({ polygons: [corners] });
    this.draw();
  }

  // One step back in the polygon that is being drawn; whether there was one.
  dropCorner() {
    if (!this.corners) return false;
    this.corners.pop();
    if (!this.corners.length) this.corners = null;
    this.draw();
    return true;
  }

  abandon() {
    const had = this.corners !== null;
    this.corners = null;
    this.drag = null;
    this.draw();
    return had;
  }

  snapped(at) {
    const [x, y] = this.toPicture(at);
    return [clamp(Math.round(x), 0, this.shown.width), clamp(Math.round(y), 0, this.shown.height)];
  }

  // ------------------------------------------------------------------------- what is where

  handles(actor) {
    const [x, y, w, h] = boxOf(actor);
    const [left, top] = this.toScreen([x, y]);
    const [right, bottom] = this.toScreen([x + w, y + h]);
    const places = { nw: [left, top], ne: [right, top], sw: [left, bottom], se: [right, bottom] };
    if (right - left > 40) Object.assign(places, { n: [(left + right) / 2, top], s: [(left + right) / 2, bottom] });
    if (bottom - top > 40) Object.assign(places, { w: [left, (top + bottom) / 2], e: [right, (top + bottom) / 2] });
    return places;
  }

  handleAt(at) {
    const actor = this.shown.actors[this.shown.selected];
    if (!actor || !actor.box) return null;
    const near = Object.entries(this.handles(actor)).map(([edges, place]) => [edges, Math.hypot(place[0] - at[0], place[1] - at[1])]);
    near.sort((a, b) => a[1] - b[1]);
    return near[0][1] <= GRIP ? near[0][0] : null;
  }

  cornerAt(at) {
    const actor = this.shown.actors[this.shown.selected];
    let best = null;
    const consider = (corner, found) => {
      const [x, y] = this.toScreen(corner);
      const far = Math.hypot(x - at[0], y - at[1]);
      if (far <= GRIP && (!best || far < best.far)) best = { ...found, far };
    };
    (actor?.polygons || []).forEach((corners, part) => {
      corners.forEach((corner, place) => consider(corner, { part, place }));
      if (best) return;
      corners.forEach((corner, place) => {
        const next = corners[(place + 1) % corners.length];
        const middle = [(corner[0] + next[0]) / 2, (corner[1] + next[1]) / 2];
        consider(middle, { part, place: place + 1, added: true });
      });
    });
    return best && { part: best.part, place: best.place, added: best.added };
  }

  // The label whose edge is here, the selected one first; -1.
  edgeAt(at) {
    const { actors, selected } = this.shown;
    const order = actors.map((_, index) => index).sort((a, b) => (b === selected) - (a === selected));
    const hit = order.find((index) => this.outlines(actors[index]).some((line) => onLine(line, at, GRIP - 1)));
    return hit === undefined ? -1 : hit;
  }

  // The edges of a label as pairs of screen points.
  outlines(actor) {
    const rings = actor.polygons || [ringOf(boxOf(actor))];
    return rings.flatMap((corners) => corners.map((corner, place) =>
      [this.toScreen(corner), this.toScreen(corners[(place + 1) % corners.length])]));
  }

  cursor(at) {
    if (this.shown.still) return void (this.canvas.style.cursor = "grab");
    if (this.drag) return;
    const edges = this.shown.marks === "boxes" && this.handleAt(at);
    const corner = this.shown.marks === "masks" && !this.corners && this.cornerAt(at);
    const name = edges ? edges + "-resize" : corner ? "pointer" : !this.corners && this.edgeAt(at) >= 0 ? "move" : "crosshair";
    this.canvas.style.cursor = name;
  }

  // ---------------------------------------------------------------------------------- drawing

  draw() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      this.paint();
    });
  }

  paint() {
    const { context, shown, view } = this;
    const ratio = devicePixelRatio || 1;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, this.canvas.clientWidth, this.canvas.clientHeight);
    const [width, height] = [shown.width * view.scale, shown.height * view.scale];
    if (shown.image) {
      context.imageSmoothingEnabled = view.scale < 12; // closer, one sees the pixels
      context.imageSmoothingQuality = "high";
      context.drawImage(shown.image, view.x, view.y, width, height);
    }
    context.strokeStyle = "#ffffff22";
    context.lineWidth = 1;
    context.strokeRect(view.x - 0.5, view.y - 0.5, width + 1, height + 1);
    if (shown.hidden) return;
    shown.ghosts.forEach((actor) => this.paintActor(actor, { ghost: true }));
    shown.proposals.forEach((actor, number) => this.paintProposal(actor, number));
    shown.actors.forEach((actor, index) => index !== shown.selected && this.paintActor(actor, {}));
    if (shown.actors[shown.selected]) this.paintActor(shown.actors[shown.selected], { selected: true });
    this.paintDrawing();
  }

  path(rings) {
    this.context.beginPath();
    rings.forEach((corners) => {
      corners.forEach((corner, place) => this.context[place ? "lineTo" : "moveTo"](...this.toScreen(corner)));
      this.context.closePath();
    });
  }

  paintActor(actor, { selected, ghost }) {
    const { context, view } = this;
    const color = colorOf(actor.track);
    if (actor.mask) {
      const { canvas } = maskPicture(actor.mask, color);
      context.globalAlpha = ghost ? 0.12 : selected ? 0.5 : 0.35;
      context.imageSmoothingEnabled = false;
      context.drawImage(canvas, view.x, view.y, this.shown.width * view.scale, this.shown.height * view.scale);
      context.globalAlpha = 1;
    }
    this.path(actor.polygons || [ringOf(boxOf(actor))]);
    context.setLineDash(ghost ? [2, 5] : actor.mask ? [4, 4] : []);
    if (!ghost) {
      context.strokeStyle = "#000000a0";
      context.lineWidth = selected ? 4 : 3.5;
      context.stroke();
    }
    context.strokeStyle = color;
    context.lineWidth = selected ? 2.2 : 1.6;
    context.globalAlpha = ghost ? 0.8 : 1;
    context.stroke();
    context.globalAlpha = 1;
    context.setLineDash([]);
    if (actor.polygons || selected) {
      context.fillStyle = color + (selected ? "33" : "26");
      context.fill();
    }
    if (selected) this.paintHandles(actor, color);
    this.paintTag(actor, color, ghost);
  }

  paintHandles(actor, color) {
    const { context } = this;
    const dots = actor.polygons ? actor.polygons.flat().map((corner) => this.toScreen(corner)) : actor.box ? Object.values(this.handles(actor)) : [];
    dots.forEach(([x, y]) => {
      context.fillStyle = "#fff";
      context.strokeStyle = color;
      context.lineWidth = 1.5;
      context.beginPath();
      context.rect(x - 3.5, y - 3.5, 7, 7);
      context.fill();
      context.stroke();
    });
  }

  paintTag(actor, color, ghost) {
    const { context } = this;
    const [x, y] = boxOf(actor);
    const [left, top] = this.toScreen([x, y]);
    const text = ghost ? `${actor.track}` : `${actor.track}${actor.class ? " " + actor.class : ""}${actor.warning ? " ⚠" : ""}`;
    context.font = "600 12px system-ui, sans-serif";
    const width = context.measureText(text).width + 10;
    const above = top - 17 > 0 ? top - 17 : top + 1;
    context.globalAlpha = ghost ? 0.6 : 1;
    context.fillStyle = color;
    context.fillRect(left - 1, above, width, 16);
    context.fillStyle = "#10151a";
    context.fillText(text, left + 4, above + 12);
    context.globalAlpha = 1;
  }

  paintProposal(actor, number) {
    const { context, view } = this;
    context.globalAlpha = 0.55;
    if (actor.mask) {
      context.globalAlpha = 0.2;
      context.drawImage(maskPicture(actor.mask, "#ffffff").canvas, view.x, view.y, this.shown.width * view.scale, this.shown.height * view.scale);
      context.globalAlpha = 0.55;
    }
    this.path([ringOf(boxOf(actor))]);
    context.setLineDash([6, 5]);
    context.strokeStyle = "#ffffff";
    context.lineWidth = 1.5;
    context.stroke();
    context.setLineDash([]);
    const [x, y, , h] = boxOf(actor);
    const [left, bottom] = this.toScreen([x, y + h]);
    const score = actor.score === null || actor.score === undefined ? "" : ` ${Math.round(100 * actor.score)}%`;
    const text = `${number === 0 ? "A accepts" : ""}${score}`.trim();
    context.font = "11px system-ui, sans-serif";
    context.fillStyle = "#000";
    context.fillRect(left, bottom - 15, context.measureText(text).width + 8, 15);
    context.fillStyle = "#fff";
    context.globalAlpha = 0.95;
    context.fillText(text, left + 4, bottom - 4);
    context.globalAlpha = 1;
  }

  paintDrawing() {
    const { context, drag, mouse } = this;
    const line = () => {
      context.strokeStyle = "#000000a0";
      context.lineWidth = 3;
      context.stroke();
      context.strokeStyle = "#fff";
      context.lineWidth = 1.3;
      context.stroke();
    };
    if (drag?.kind === "draw") {
      const box = boxBetween(this.toPicture(drag.from), this.toPicture(drag.to), this.shown.width, this.shown.height);
      this.path([ringOf(box)]);
      line();
      const [x, y] = this.toScreen([box[0] + box[2], box[1] + box[3]]);
      context.font = "11px system-ui, sans-serif";
      context.fillStyle = "#fff";
      context.fillText(`${box[2]} × ${box[3]}`, x + 6, y + 12);
    } else if (this.corners) {
      context.beginPath();
      this.corners.forEach((corner, place) => context[place ? "lineTo" : "moveTo"](...this.toScreen(corner)));
      if (mouse) context.lineTo(...mouse);
      line();
      this.corners.forEach((corner, place) => {
        const [x, y] = this.toScreen(corner);
        context.fillStyle = place ? "#fff" : "#5ee08a";
        context.beginPath();
        context.arc(x, y, place ? 3 : 5, 0, 7);
        context.fill();
      });
    } else if (mouse && !this.shown.still && !drag) {
      context.strokeStyle = "#ffffff38";
      context.lineWidth = 1;
      context.beginPath();
      context.moveTo(mouse[0] + 0.5, 0);
      context.lineTo(mouse[0] + 0.5, this.canvas.clientHeight);
      context.moveTo(0, mouse[1] + 0.5);
      context.lineTo(this.canvas.clientWidth, mouse[1] + 0.5);
      context.stroke();
    }
  }
}

function ringOf([x, y, w, h]) {
  return [[x, y], [x + w, y], [x + w, y + h], [x, y + h]];
}

function onLine([a, b], at, reach) {
  const [dx, dy] = [b[0] - a[0], b[1] - a[1]];
  const length = dx * dx + dy * dy;
  const part = length ? clamp(((at[0] - a[0]) * dx + (at[1] - a[1]) * dy) / length, 0, 1) : 0;
  return Math.hypot(a[0] + part * dx - at[0], a[1] + part * dy - at[1]) <= reach;
}
