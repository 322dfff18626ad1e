// The labeling page: its state, what can be done to it, and the keys.

import { act, get, Queue, Refused, who } from "/server.js";
import { boxOf, clamp, inside, jump, moved, nearestLabeled, newTrack, resized, sameShape, suggestTrack } from "/shapes.js";
import { Stage } from "/stage.js";
import { clock, Loop, picture, Strip, Times } from "/strip.js";
import { atWork, button, drawSide, el } from "/panels.js";

const KEYS = [
  ["drag", "draw a box; also inside another one"],
  ["drag an edge, a handle", "move, resize"],
  ["click corners", "draw a mask; Enter, or the first corner, closes it; drag corners and the points between them"],
  ["Enter", "this frame is done; to the next"],
  ["N", "no action here; to the next"],
  ["S", "skip this frame, with a reason"],
  ["1 2 3 …", "class of the video; 0: none of these"],
  ["Shift 1 2 3 …", "class of the selected actor alone"],
  ["Space", "play the second before and after"],
  [", .", "look at the frame before, after; with Shift a second away; Esc: back"],
  ["A", "accept the detector’s proposal (under the mouse, or the best); Shift A: all; H: hide them"],
  ["T", "another track number for the selected actor"],
  ["B", "select the next actor"],
  ["arrows", "move the selected actor by a pixel; Shift: ten; Alt: its right and lower edge"],
  ["P", "masks: the next polygon is a further part of the selected actor"],
  ["Del", "delete the selected actor"],
  ["Ctrl Z, Ctrl Y", "undo, redo; also frames that were done"],
  ["PageUp, PageDown", "frame before, after, of those asked for"],
  ["[ ]", "an action begins, ends here (long videos)"],
  ["O", "show the labels of the nearest labeled frame"],
  ["F, + −, wheel", "fit, zoom; Shift drag or right button: pan"],
  ["L", "second look at labels the detector disagrees with"],
  ["?", "these keys"],
];
const REASONS = ["too dark or blurred", "cannot tell what happens", "the actor is cut off", "the picture is broken"];
const IDLE = 30; // seconds after which nobody is thought to be working

const byId = (id) => document.getElementById(id);
const copy = (value) => structuredClone(value);

const page = {
  desk: 0,
  view: null,
  at: 0,
  selected: -1,
  looked: null, // number of the frame that is looked at instead of the asked one
  begun: null, // first frame of a part that is being marked
  about: null,
  stats: {},
  undone: [],
  done: [],
  live: null, // an actor while it is dragged: {index, actor}
  hideProposals: false,
  ghosts: false,
  part: false, // the next polygon belongs to the selected actor
  times: new Times(null, 1),
  seconds: new Map(),
  spent: 0,
  last: performance.now(),
  digits: "",

  get item() { return this.view.items[this.at]; },
  get row() {
    const { item } = this;
    if (!this.live) return item;
    const actors = item.actors.slice();
    actors[this.live.index] = this.live.actor;
    return { ...item, actors };
  },
  get video() { return this.view.videos[this.item.v]; },
  get looks() { return this.about?.looks || 0; },
  get warnings() {
    const frames = this.labeledFrames();
    return this.row.actors.map((actor) => jump(actor, frames, this.item.frame));
  },

  // ----------------------------------------------------------------------------- what is said

  classOf(index) {
    const item = this.view.items[index];
    const video = this.view.videos[item.v];
    if (video.fixed !== null && video.fixed !== undefined) return { class: video.fixed };
    if (video.own) return video.own;
    if (this.view.kind === "correction") return video.given ? { class: video.given } : null;
    return item.twice ? null : video.others;
  },
  classOfVideo(v) {
    return this.classOf(this.view.items.findIndex((item) => item.v === v));
  },
  stateOf(index) {
    const item = this.view.items[index];
    if (item.state !== "open") return item.state;
    if (this.view.kind === "answers" && this.classOf(index)?.none) return "none";
    return item.actors.length && this.view.kind === "answers" ? "begun" : "open";
  },
  isOpen(index) {
    return ["open", "begun"].includes(this.stateOf(index));
  },
  counts() {
    const all = this.view.items.length;
    const open = this.view.items.filter((_, index) => this.isOpen(index)).length;
    return [all - open, all];
  },
  // Frames of this video that have labels, but for the one at hand.
  labeledFrames() {
    const { item, view, video } = this;
    const asked = view.items.filter((other) => other.v === item.v && other !== item && other.actors.length);
    return [...video.before, ...asked.map(({ frame, actors }) => ({ frame, actors }))];
  },
  proposals() {
    const { item } = this;
    if (item.state === "done" || this.hideProposals) return [];
    const free = item.proposals.filter((one) => !item.actors.some((actor) => overlaps(actor, one)));
    return free.sort((a, b) => (b.score || 0) - (a.score || 0));
  },

  // ------------------------------------------------------------------------------------ steps

  // Everything that changes a frame goes through here: undo, the journal, the picture.
  commit(change, index = this.at) {
    const item = this.view.items[index];
    const before = { state: item.state, actors: item.actors, reason: item.reason };
    const after = { ...copy(before), ...change };
    this.done.push({ desk: this.desk, index, before, after });
    this.undone = [];
    this.set(index, after);
  },
  set(index, now) {
    const item = this.view.items[index];
    Object.assign(item, copy(now));
    item.by = who;
    const entry = { do: "frame", item: index, stamp: this.stamp, ...copy(now) };
    entry.actors = entry.actors.map(({ warning, ...actor }) => actor);
    if (now.state !== "open") entry.seconds = Math.round(10 * this.spent) / 10;
    queue.push(this.desk, entry);
  },
  edit(actors) {
    const again = this.item.state !== "open";
    this.commit({ actors, state: "open", reason: "" });
    if (again) say("Changed: press Enter when the frame is done.");
    this.selected = Math.min(this.selected, actors.length - 1);
    draw();
  },
  undo() {
    if (stage.dropCorner()) return;
    const step = this.done.pop();
    if (!step) return say("Nothing to undo.");
    this.undone.push(step);
    this.apply(step, step.before);
  },
  redo() {
    const step = this.undone.pop();
    if (!step) return say("Nothing to redo.");
    this.done.push(step);
    this.apply(step, step.after);
  },
  apply(step, now) {
    if (step.video !== undefined) {
      this.putClass(step.video, now);
    } else {
      this.set(step.index, now);
      if (step.index !== this.at) this.open(step.index);
      this.selected = clamp(this.selected, -1, this.item.actors.length - 1);
    }
    draw();
  },

  drawn(shape) {
    if (this.part && this.item.actors[this.selected]?.polygons && shape.polygons) {
      const actors = copy(this.item.actors);
      actors[this.selected].polygons.push(...shape.polygons);
      this.part = false;
      return this.edit(touchedOf(actors, this.selected));
    }
    const actor = { ...shape, origin: "drawn" };
    actor.track = suggestTrack(actor, this.item.actors, this.labeledFrames(), this.item.frame);
    const actors = [...copy(this.item.actors), actor];
    this.selected = actors.length - 1;
    this.edit(actors);
    this.warn();
  },
  changed(index, actor, over) {
    if (!over) {
      this.live = { index, actor };
      return draw(true);
    }
    const now = this.live?.actor;
    this.live = null;
    if (!now) return;
    this.replace(index, now);
  },
  replace(index, now) {
    if (sameShape(now, this.item.actors[index])) return draw();
    const actors = copy(this.item.actors);
    actors[index] = now;
    this.edit(touchedOf(actors, index));
    this.warn();
  },
  warn() {
    const warning = this.warnings[this.selected];
    if (!warning) return;
    const { track } = this.item.actors[this.selected];
    say(`Track ${track} jumped ${warning.pixels} pixels since frame ${warning.frame}. Another actor? T changes the track.`, 6);
  },
  select(index) {
    this.selected = index;
    draw();
  },
  remove() {
    if (stage.dropCorner()) return;
    const { item } = this;
    if (!item.actors[this.selected]) return say("Select an actor first: click it, or press B.");
    this.edit(copy(item.actors).filter((_, index) => index !== this.selected));
  },
  nextTrack() {
    const { item } = this;
    const actor = item.actors[this.selected] || item.actors.at(-1);
    if (!actor) return;
    const index = item.actors.indexOf(actor);
    const frames = this.labeledFrames();
    const others = item.actors.filter((one) => one !== actor);
    const used = new Set(others.map((one) => one.track));
    const known = [...others, ...frames.flatMap((one) => one.actors)].map((one) => one.track);
    const fresh = newTrack(others, frames);
    const choices = [...new Set([...known, fresh])].filter((track) => !used.has(track)).sort((a, b) => a - b);
    const next = choices.find((track) => track > actor.track) ?? choices[0];
    const actors = copy(item.actors);
    actors[index].track = next;
    this.selected = index;
    this.edit(actors);
    say(next === fresh ? `Track ${next}: a new actor.` : `Track ${next}.`);
  },
  accept(all) {
    const { item } = this;
    const free = this.proposals();
    if (!free.length) return say(item.proposals.length ? "No proposal is left here." : "The detector proposes nothing here.");
    const point = stage.mouse && stage.toPicture(stage.mouse);
    const under = point && free.find((one) => inside(boxOf(one), point));
    const actors = copy(item.actors);
    for (const one of all ? free : [under || free[0]]) {
      const actor = { origin: "accepted", ...(one.box ? { box: one.box } : { mask: one.mask }) };
      actor.track = suggestTrack(actor, actors, this.labeledFrames(), item.frame);
      actors.push(actor);
    }
    this.selected = actors.length - 1;
    this.edit(actors);
    this.warn();
  },

  setClass(name) {
    const { video, item } = this;
    if (video.fixed !== null && video.fixed !== undefined) {
      return say(`This video was labeled “${video.fixed}” before; Shift and a number gives one actor another class.`, 5);
    }
    const now = name === null ? { class: null, none: true } : { class: name, none: false };
    this.done.push({ desk: this.desk, video: item.v, before: video.own, after: now });
    this.undone = [];
    this.putClass(item.v, now);
    draw();
    if (name === null && this.view.kind === "answers") {
      say("None of these classes: the whole video is answered.");
      this.next();
    }
  },
  putClass(v, now) {
    this.view.videos[v].own = now;
    queue.push(this.desk, { do: "class", video: v, stamp: this.stamp, class: now ? now.class : null, none: Boolean(now?.none) });
  },
  setActorClass(name) {
    const { item } = this;
    if (!item.actors[this.selected]) return say("Select an actor first: Shift and a number is the class of one actor.");
    const actors = copy(item.actors);
    if (actors[this.selected].class === name || this.classOf(this.at)?.class === name) delete actors[this.selected].class;
    else actors[this.selected].class = name;
    this.edit(actors);
  },

  // Whether what is needed before a frame can be finished has been said.
  mayFinish() {
    const known = this.classOf(this.at);
    if (known && (known.class || known.none)) return true;
    const last = this.view.classes.length;
    say(`First the class of this video: ${last > 1 ? `1 to ${last}` : "1"}, or 0 for none of these.`, 5);
    return false;
  },
  finish() {
    if (stage.corners) return stage.closePolygon();
    if (this.looked !== null || loop.running) this.back();
    if (!this.item.actors.length && this.view.kind === "answers") return say("No actor is marked: N says that there is no action here, S skips the frame.", 5);
    if (!this.mayFinish()) return;
    this.commit({ state: "done", reason: "" });
    this.next();
  },
  noAction() {
    if (!this.mayFinish()) return;
    stage.abandon();
    this.commit({ state: "done", actors: [], reason: "" });
    this.next();
  },
  skip(reason) {
    this.commit({ state: "skipped", reason });
    this.next();
  },

  // ----------------------------------------------------------------------------- which frame

  go(index) {
    if (index < 0 || index >= this.view.items.length) return;
    this.open(index);
  },
  open(index) {
    loop.stop();
    stage.abandon();
    byId("finished").hidden = true;
    Object.assign(this, { at: index, selected: -1, looked: null, live: null, part: false, spent: 0 });
    if (this.begunIn !== this.item.v) this.begun = null;
    this.last = performance.now();
    this.lease(index);
    this.loadTimes();
    for (const near of [index, this.following(index)]) if (near !== null) this.image(near);
    draw();
  },
  async lease(index) {
    try {
      const answer = await act(this.desk, { do: "lease", item: index });
      if (answer.holder === who || this.at !== index) return;
      this.view.items[index].leased = answer.holder;
      const next = this.following(index);
      say(`${answer.holder} is working on that frame.`, 4);
      if (next !== null && this.isOpen(index)) this.open(next);
    } catch (error) {
      if (error instanceof Refused) say(error.message);
    }
  },
  // The next frame that is to be labeled, those of this video first; null without any.
  following(index) {
    const { items } = this.view;
    const free = items.map((_, other) => other).filter((other) => other !== index && this.isOpen(other) && !items[other].leased);
    const after = free.filter((other) => other > index);
    return [...after, ...free][0] ?? null;
  },
  next() {
    const next = this.isOpen(this.at) ? this.at : this.following(this.at);
    if (next !== null) return this.open(next);
    this.selected = -1;
    draw();
    this.finished();
  },
  finished() {
    const box = byId("finished");
    box.hidden = false;
    if (this.takenIn) return box.replaceChildren(...this.waitingRows());
    const waiting = this.view.items.filter((item, index) => item.leased && this.isOpen(index)).length;
    const skipped = this.view.items.filter((item) => item.state === "skipped").length;
    const rows = [el("h2", {}, waiting ? "What is left is with others." : this.view.kind === "correction" ? "All looked at. Thank you." : "All frames are labeled. Thank you.")];
    if (skipped) rows.push(el("p", {}, `${skipped} skipped.`));
    if (!this.about.test_set && this.view.kind === "answers" && this.about.machine.state !== "running") {
      rows.push(button("Train, then choose the next frames", "", () => this.start(), { className: "primary" }));
    }
    if (this.view.kind === "correction") rows.push(button("Back to the new frames", "L", () => this.otherDesk()));
    rows.push(button("Look through them again", "", () => this.open(0)));
    box.replaceChildren(...rows);
  },
  // Whether the labels of this cycle have been taken in, so that nothing is left to do here.
  get takenIn() {
    return this.view.kind === "answers" && this.about.labeled;
  },
  waitingRows() {
    const { machine, newer } = this.about;
    const look = this.looks ? button(`Second look at ${this.looks} label${this.looks === 1 ? "" : "s"}`, "L", () => this.otherDesk()) : "";
    if (newer !== null) return [el("h2", {}, `The next frames are ready: cycle ${newer}.`), button("Label them", "", () => this.newest(), { className: "primary" }), look];
    if (machine.state === "running") return [el("h2", {}, "The machine is at work."), ...atWork(machine), look];
    const failed = machine.state === "failed";
    const text = failed ? `It stopped: ${machine.message}` : "The labels of this cycle have been taken in.";
    return [el("h2", {}, failed ? "The machine stopped." : "Done."), el("p", {}, text), button(failed ? "Start it again" : "Train, then choose the next frames", "", () => this.start(), { className: "primary" }), look];
  },
  image(index) {
    const item = this.view.items[index];
    const image = picture(this.desk, item.v, item.frame, 0, this.stamp);
    if (!image.complete) image.addEventListener("load", () => index === this.at && draw(), { once: true });
    if (!image.heard) image.addEventListener("error", () => say(`Frame ${item.frame} of ${this.view.videos[item.v].name} cannot be read.`, 8), { once: true });
    image.heard = true;
    return image;
  },
  async loadTimes() {
    const { item, video, desk } = this;
    const key = `${this.stamp} ${desk} ${item.v}`;
    this.times = this.seconds.get(key) || new Times(null, video.of);
    if (this.seconds.has(key)) return;
    try {
      const { seconds } = await get("/api/seconds", { d: desk, v: item.v });
      this.seconds.set(key, new Times(seconds, video.of));
      if (this.item === item) {
        this.times = this.seconds.get(key);
        draw();
      }
    } catch (error) {
      if (error instanceof Refused) say(error.message, 8);
    }
  },

  // ---------------------------------------------------------------------------- looking around

  look(frame) {
    loop.stop();
    const at = clamp(frame, 0, this.video.of - 1);
    this.looked = at === this.item.frame ? null : at;
    draw();
  },
  step(count) {
    this.look((this.looked ?? this.item.frame) + count);
  },
  stepSecond(sign) {
    const now = this.looked ?? this.item.frame;
    const to = this.times.frameAt(this.times.at(now) + sign);
    this.look(to === now ? now + sign : to);
  },
  back() {
    loop.stop();
    this.looked = null;
    draw();
  },
  play() {
    if (loop.running) return this.back();
    loop.start(this.desk, this.item.v, this.stamp, this.looked ?? this.item.frame, this.times);
  },
  beginPart() {
    this.begun = this.looked ?? this.item.frame;
    this.begunIn = this.item.v;
    say(`An action begins at frame ${this.begun}. ] where it ends.`);
    draw();
  },
  endPart() {
    if (this.begun === null) return say("First [ where the action begins.");
    const last = this.looked ?? this.item.frame;
    if (last < this.begun) return say("The end is before the beginning.");
    const part = { first: this.begun, end: last + 1, class: this.classOf(this.at)?.class || null };
    const { segments } = this.video;
    if (segments.some((other) => other.first < part.end && part.first < other.end)) return say("This overlaps with a part that is marked already.");
    this.begun = null;
    this.putSegments([...segments, part].sort((a, b) => a.first - b.first));
    say(`Frames ${part.first} to ${last} are a part${part.class ? ": " + part.class : ""}.`);
  },
  removeSegment(place) {
    this.putSegments(this.video.segments.filter((_, index) => index !== place));
  },
  putSegments(parts) {
    this.video.segments = parts;
    queue.push(this.desk, { do: "segments", video: this.item.v, stamp: this.stamp, parts });
    draw();
  },

  // -------------------------------------------------------------------------------- the machine

  async start() {
    const [done, all] = this.counts();
    if (done < all && !this.about.labeled && !confirm(`${done} of ${all} frames are labeled. Start the machine with these?`)) return;
    await this.asked({ do: "start" });
    this.spent = 0;
    await poll();
  },
  async newest() {
    await this.asked({ do: "newest" });
    location.reload();
  },
  async asked(entry) {
    try {
      return await act(0, entry);
    } catch (error) {
      say(error.message, 8);
    }
    return null;
  },
  async otherDesk() {
    if (this.desk === 0 && !this.looks) return say("There are no labels for a second look yet.");
    this.desk = 1 - this.desk;
    this.done = [];
    this.undone = [];
    await load();
  },
};

function overlaps(actor, proposal) {
  const [a, b] = [boxOf(actor), boxOf(proposal)];
  const width = Math.min(a[0] + a[2], b[0] + b[2]) - Math.max(a[0], b[0]);
  const height = Math.min(a[1] + a[3], b[1] + b[3]) - Math.max(a[1], b[1]);
  return width > 0 && height > 0 && (width * height) / Math.min(a[2] * a[3], b[2] * b[3]) > 0.6;
}

// Actors of which one has been changed by hand.
function touchedOf(actors, index) {
  if (["accepted", "label"].includes(actors[index].origin)) actors[index].origin = "moved";
  return actors;
}

// --------------------------------------------------------------------------------------- parts

const stage = new Stage(byId("canvas"), {
  drawn: (shape) => page.drawn(shape),
  changed: (index, actor, over) => page.changed(index, actor, over),
  selected: (index) => page.select(index),
  touched: () => {
    if (page.looked !== null || loop.running) {
      page.back();
      say("Back at the frame that is asked for.");
    }
  },
});
const strip = new Strip(byId("strip"), byId("timeline"), (frame) => page.look(frame));
const loop = new Loop((image, frame) => {
  byId("badge").hidden = !image;
  if (!image) return draw();
  const away = page.times.at(frame) - page.times.at(page.item.frame);
  byId("badge").textContent = `frame ${frame} · ${away < 0 ? "−" : "+"}${Math.abs(away).toFixed(2)} s`;
  stage.show({ image, hidden: frame !== page.item.frame, still: true });
});
const queue = new Queue(
  (state, message) => {
    const texts = { saved: "saved", saving: "saving", offline: "no answer from label.py: start it again, nothing is lost", locked: "label.py has a new address: open it", refused: message };
    byId("saved").className = state;
    byId("saved").textContent = texts[state];
    if (state === "refused") {
      say(`Not taken: ${message}`, 8);
      if (page.view) load(page.at);
    }
  },
  (answer) => {
    page.stats = { ...page.stats, ...answer };
    if (page.view) drawHead();
  },
);

let noteTimer = 0;
function say(text, seconds = 3) {
  byId("note").textContent = text;
  clearTimeout(noteTimer);
  noteTimer = setTimeout(() => { byId("note").textContent = ""; }, 1000 * seconds);
}

// -------------------------------------------------------------------------------------- drawing

let drawing = false;
function draw(stageOnly) {
  drawStage();
  if (stageOnly || drawing) return;
  drawing = true;
  requestAnimationFrame(() => {
    drawing = false;
    drawHead();
    drawSide(byId("side"), page);
    drawStrip();
  });
}

function drawStage() {
  const { item, video, view } = page;
  const away = page.looked !== null;
  let image = away ? picture(page.desk, item.v, page.looked, 1, page.stamp) : page.image(page.at);
  if (away && !image.complete) image.addEventListener("load", () => page.looked !== null && drawStage(), { once: true });
  if (!image.complete || !image.naturalWidth) image = null;
  const warnings = page.warnings;
  const actors = page.row.actors.map((actor, index) => ({ ...actor, warning: warnings[index] }));
  const ghosts = page.ghosts && !away ? nearestLabeled(page.labeledFrames(), item.frame)[0]?.actors || [] : [];
  stage.show({
    image, actors, ghosts, width: video.width, height: video.height, marks: view.marks, selected: page.selected,
    proposals: page.proposals(), hidden: away, still: away || loop.running,
  });
  byId("badge").hidden = !away && !loop.running;
  if (away) byId("badge").textContent = `looking at frame ${page.looked} · Esc: back to ${item.frame}`;
}

function drawHead() {
  const { view, item, video, stats } = page;
  const [done, all] = page.counts();
  byId("run").textContent = view.run;
  byId("cycle").textContent = view.kind === "correction" ? "second look" : `cycle ${view.cycle}`;
  byId("progress").setAttribute("aria-valuemax", all);
  byId("progress").setAttribute("aria-valuenow", done);
  byId("progress").firstElementChild.style.width = `${(100 * done) / all}%`;
  byId("count").textContent = `${done} of ${all}`;
  byId("person").textContent = view.who;
  const facts = [];
  if (stats.seconds_a_frame) {
    const left = ((all - done) * stats.seconds_a_frame) / 60;
    facts.push(["frames/hour", Math.round(3600 / stats.seconds_a_frame)]);
    facts.push(["minutes left", left < 1 && done < all ? "< 1" : Math.ceil(left)]);
  }
  if (stats.cost) facts.push(["cost", stats.cost.total === stats.cost.cycle ? stats.cost.cycle : `${stats.cost.cycle} (in all ${stats.cost.total})`]);
  byId("stats").replaceChildren(...facts.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, String(value)))));
  byId("video").replaceChildren(el("bdi", {}, video.name));
  byId("frame").textContent = `frame ${item.frame} of ${video.first ? `${video.first} to ${video.first + video.frames - 1}` : video.of} · ${clock(page.times.at(item.frame))}`;
  byId("why").textContent = item.why || video.reason || "";
  document.title = `${done}/${all} ${view.run}`;
}

function drawStrip() {
  const { item, video, view } = page;
  const marks = video.before.map(({ frame }) => ({ frame, kind: "before" }));
  view.items.forEach((other, index) => {
    if (other.v !== item.v) return;
    const state = page.stateOf(index);
    marks.push({ frame: other.frame, kind: state === "skipped" ? state : ["done", "none"].includes(state) ? "done" : "open" });
  });
  strip.show({
    desk: page.desk, v: item.v, stamp: page.stamp, first: video.first, frames: video.frames, of: video.of, times: page.times,
    looked: page.looked ?? item.frame, asked: item.frame, marks, parts: video.segments, begun: page.begun,
  });
}

function drawActions() {
  byId("actions").replaceChildren(
    button("Done", "Enter", () => page.finish(), { className: "primary", id: "done" }),
    button("No action", "N", () => page.noAction()),
    button("Skip", "S", () => askReason()),
    button("Play ±1 s", "Space", () => page.play()),
    button("Undo", "Ctrl Z", () => page.undo()),
    button("Redo", "Ctrl Y", () => page.redo()),
    button("Fit", "F", () => stage.fit(), { id: "fit" }),
  );
}

// ----------------------------------------------------------------------------------------- keys

function askReason() {
  const dialog = byId("skip");
  byId("reason").value = "";
  byId("reasons").replaceChildren(...REASONS.map((text, place) => button(text, String(place + 1), () => { dialog.close(); page.skip(text); })));
  dialog.showModal();
  byId("reasons").firstElementChild.focus();
}
byId("skip").addEventListener("keydown", (event) => {
  const place = "1234".indexOf(event.key);
  if (event.target === byId("reason") || place < 0) return;
  event.preventDefault();
  byId("skip").close();
  page.skip(REASONS[place]);
});
byId("skip").querySelector("form").addEventListener("submit", () => page.skip(byId("reason").value.trim() || "no reason given"));
byId("skip-cancel").addEventListener("click", () => byId("skip").close());
byId("help-button").addEventListener("click", () => byId("help").showModal());
byId("keys").append(...KEYS.map(([keys, what]) => el("tr", {}, el("td", {}, el("kbd", {}, keys)), el("td", {}, what))));

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

function nudge(event) {
  const { item, selected, video } = page;
  const actor = item.actors[selected];
  const [dx, dy] = ARROWS[event.key].map((side) => side * (event.shiftKey ? 10 : 1));
  if (!actor) return page.step(dx + dy);
  const now = event.altKey && actor.box ? { ...actor, box: resized(actor.box, "se", dx, dy, video.width, video.height) } : moved(actor, dx, dy, video.width, video.height);
  page.replace(selected, now);
}

// A number key: classes beyond the ninth are typed as two digits.
function digit(number, actorAlone) {
  const { classes } = page.view;
  const choose = (text) => {
    page.digits = "";
    const place = Number(text) - 1;
    if (Number(text) === 0) return actorAlone ? null : page.setClass(null);
    if (place >= classes.length) return say(`There are ${classes.length} classes.`);
    return actorAlone ? page.setActorClass(classes[place]) : page.setClass(classes[place]);
  };
  clearTimeout(page.digitTimer);
  const text = page.digits + number;
  if (Number(text) * 10 <= classes.length && Number(text) > 0) {
    page.digits = text;
    say(`${text}…`, 1);
    page.digitTimer = setTimeout(() => choose(text), 700);
    return null;
  }
  return choose(text);
}

const PRESSED = {
  Enter: () => page.finish(),
  n: () => page.noAction(),
  s: () => askReason(),
  " ": () => page.play(),
  ",": () => page.step(-1),
  ".": () => page.step(1),
  "<": () => page.stepSecond(-1),
  ">": () => page.stepSecond(1),
  ";": () => page.stepSecond(-1),
  ":": () => page.stepSecond(1),
  a: (event) => page.accept(event.shiftKey),
  t: () => page.nextTrack(),
  b: () => page.select(page.item.actors.length ? (page.selected + 1) % page.item.actors.length : -1),
  h: () => { page.hideProposals = !page.hideProposals; draw(); },
  o: () => { page.ghosts = !page.ghosts; draw(); },
  p: () => {
    page.part = Boolean(page.item.actors[page.selected]?.polygons);
    say(page.part ? "The next polygon is a further part of this actor." : "Select an actor with a polygon first.");
  },
  f: () => stage.fit(),
  "+": () => stage.zoom(1.25),
  "=": () => stage.zoom(1.25),
  "-": () => stage.zoom(0.8),
  "[": () => page.beginPart(),
  "]": () => page.endPart(),
  l: () => page.otherDesk(),
  "?": () => byId("help").showModal(),
  Delete: () => page.remove(),
  Backspace: () => page.remove(),
  PageUp: () => page.go(page.at - 1),
  PageDown: () => page.go(page.at + 1),
  Escape: () => {
    if (stage.abandon()) return;
    if (page.looked !== null || loop.running) return page.back();
    page.part = false;
    page.select(-1);
  },
};

addEventListener("keydown", (event) => {
  if (!page.view || document.querySelector("dialog[open]") || event.target.matches("input")) return;
  const control = event.ctrlKey || event.metaKey;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const onButton = event.target.matches("button, summary") && (key === "Enter" || key === " ");
  if (onButton) return; // the button is pressed
  if (control) {
    if (key === "z") event.shiftKey ? page.redo() : page.undo();
    else if (key === "y") page.redo();
    else return;
  } else if (ARROWS[event.key]) {
    nudge(event);
  } else if (/^(Digit|Numpad)\d$/.test(event.code) && !event.altKey && (/^\d$/.test(event.key) || event.shiftKey)) {
    digit(event.code.at(-1), event.shiftKey);
  } else if (PRESSED[key] && !event.altKey) {
    PRESSED[key](event);
  } else if ({ BracketLeft: 1, BracketRight: 1 }[event.code]) {
    PRESSED[event.code === "BracketLeft" ? "[" : "]"]();
  } else {
    return;
  }
  event.preventDefault();
});

for (const name of ["pointerdown", "pointermove", "keydown", "wheel"]) {
  addEventListener(name, () => {
    const now = performance.now();
    page.spent += Math.min((now - page.last) / 1000, IDLE);
    page.last = now;
  }, { capture: true, passive: true });
}
// A click on a button leaves the keys to the picture.
addEventListener("click", (event) => {
  if (event.detail && event.target.closest("aside button, #actions button, #strip button")) byId("canvas").focus({ preventScroll: true });
});

// ------------------------------------------------------------------------------------- loading

async function load(at) {
  const view = await get("/api/view", { d: page.desk });
  const here = at ?? view.items.findIndex((_, index) => { page.view = view; return page.isOpen(index) && !view.items[index].leased; });
  page.view = view;
  page.about = view;
  page.stamp = view.stamp;
  page.stats = view;
  page.at = clamp(here, 0, view.items.length - 1);
  drawActions();
  page.open(page.at);
  if (here < 0 || page.takenIn) page.finished();
}

async function poll() {
  try {
    const told = await get("/api/poll", { d: page.desk });
    page.about = told;
    if (told.stamp !== page.stamp && queue.empty) return location.reload();
    if (queue.empty && told.rows.length === page.view.items.length) {
      told.rows.forEach((row, index) => {
        if (index === page.at) page.item.leased = row.leased;
        else Object.assign(page.view.items[index], row);
      });
      told.classes.forEach((said, v) => Object.assign(page.view.videos[v], said));
    }
    page.stats = told;
    if (page.takenIn) page.finished();
    if (byId("saved").className === "offline" && queue.empty) queue.tell("saved", "");
    if (!page.live && !stage.drag && !loop.running) draw();
  } catch (error) {
    if (!(error instanceof Refused)) queue.tell(error.name === "Error" && /address/.test(error.message) ? "locked" : "offline", "");
  }
}

async function keepLease() {
  if (performance.now() - page.last < 300_000 && page.isOpen(page.at)) page.lease(page.at);
}

Object.assign(window, { label: page, stage, queue, loop }); // for the tests and the curious

try {
  await load();
  document.body.dataset.ready = "yes";
  byId("saved").textContent = byId("saved").textContent || "saved";
  byId("canvas").focus({ preventScroll: true });
  setInterval(poll, 3000);
  setInterval(keepLease, 120_000);
  await poll();
} catch (error) {
  byId("finished").replaceChildren(el("h2", {}, "The page cannot be opened."), el("p", {}, error.message));
  byId("finished").hidden = false;
}
