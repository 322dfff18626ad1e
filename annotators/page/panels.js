// The side of the page: class, actors, frames, parts of long videos, the machine's part.

import { colorOf } from "/shapes.js";
import { clock } from "/strip.js";

export function el(tag, about, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(about || {})) {
    if (name === "on") Object.entries(value).forEach(([event, what]) => element.addEventListener(event, what));
    else if (name in element && name !== "list") element[name] = value;
    else if (value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

export function button(text, key, press, more) {
  const inner = key ? [text, " ", el("kbd", {}, key)] : [text];
  return el("button", { type: "button", on: { click: press }, ...more }, ...inner);
}

function section(title, ...children) {
  return el("section", {}, el("h2", {}, title), ...children);
}

// page: see main.js.
export function drawSide(element, page) {
  const parts = [classes(page), actors(page), frames(page), machine(page), people(page), segments(page)];
  const kept = element.scrollTop;
  const list = element.querySelector(".groups")?.scrollTop || 0;
  const open = new Set([...element.querySelectorAll("details[open]")].map((one) => one.id));
  element.replaceChildren(...parts.filter(Boolean));
  element.querySelectorAll("details").forEach((one) => { one.open = one.open || open.has(one.id); });
  element.scrollTop = kept;
  const groups = element.querySelector(".groups");
  const here = groups.querySelector(".group.here");
  if (drawnAt !== page.at) groups.scrollTop = here.offsetTop - groups.offsetTop - groups.clientHeight / 2;
  else groups.scrollTop = list;
  drawnAt = page.at;
}
let drawnAt = -1; // the frame whose video the list was scrolled to

function classes(page) {
  const { view, item } = page;
  const video = view.videos[item.v];
  const now = page.classOf(page.at);
  const fixed = video.fixed !== null && video.fixed !== undefined;
  const rows = view.classes.map((name, place) => {
    const chosen = now && now.class === name;
    return el("button", {
      type: "button", className: "choice" + (chosen ? " chosen" : ""), disabled: fixed && !chosen,
      "aria-pressed": String(Boolean(chosen)), on: { click: () => page.setClass(name) },
    }, el("kbd", {}, String(place + 1)), el("bdi", {}, name));
  });
  if (!fixed) {
    const none = now && now.none;
    rows.push(el("button", {
      type: "button", className: "choice none" + (none ? " chosen" : ""), "aria-pressed": String(Boolean(none)),
      on: { click: () => page.setClass(null) },
    }, el("kbd", {}, "0"), "none of these"));
  }
  const title = fixed ? "Class of the video (labeled before)" : "Class of the video";
  return section(title, el("div", { className: "choices" + (view.classes.length > 8 ? " many" : "") }, ...rows));
}

function actors(page) {
  const { row, view } = page;
  const list = row.actors.map((actor, index) => {
    const warning = page.warnings[index];
    const size = actor.box ? `${actor.box[2]} × ${actor.box[3]}` : actor.polygons ? `${actor.polygons.flat().length} corners` : "mask";
    return el("li", { className: index === page.selected ? "selected" : "" },
      el("button", { type: "button", className: "actor", on: { click: () => page.select(index) } },
        el("span", { className: "chip" }, String(actor.track)),
        el("span", { className: "what" }, el("bdi", {}, actor.class || ""), actor.class ? " " : "", size, el("small", {}, actor.origin === "label" ? "" : actor.origin))),
      button("", "T", () => { page.select(index); page.nextTrack(); }, { title: "another track number (T)" }),
      button("", "Del", () => { page.select(index); page.remove(); }, { title: "delete (Del)" }),
      warning ? el("p", { className: "warning" }, `Track ${actor.track} jumped ${warning.pixels} pixels since frame ${warning.frame}: T changes the track.`) : null);
  });
  [...list].forEach((entry, index) => { entry.querySelector(".chip").style.background = colorOf(row.actors[index].track); });
  const empty = row.state === "done" ? "No action in this frame." : view.marks === "masks" ? "Click corners around each actor; Enter closes the polygon." : "Drag a box around each actor.";
  const proposals = page.proposals().length;
  return section("Actors in this frame",
    list.length ? el("ul", { className: "actors" }, ...list) : el("p", { className: "faint" }, row.state === "skipped" ? `Skipped: ${row.reason || "no reason given"}.` : empty),
    proposals ? el("p", { className: "faint" }, `${proposals} proposed by the detector: `, button("accept", "A", () => page.accept())) : null);
}

function frames(page) {
  const { view } = page;
  const groups = view.videos.map((video, v) => {
    const dots = view.items.map((item, index) => ({ item, index })).filter(({ item }) => item.v === v).map(({ item, index }) => {
      const state = page.stateOf(index);
      const busy = item.leased && index !== page.at;
      return el("button", {
        type: "button", className: `dot ${state}${busy ? " busy" : ""}${index === page.at ? " here" : ""}${item.twice ? " twice" : ""}`,
        title: `frame ${item.frame}: ${busy ? item.leased + " is working on it" : state}${item.twice ? ", labeled by two" : ""}`,
        "aria-label": `frame ${item.frame}, ${state}`, on: { click: () => page.go(index) },
      });
    });
    const said = page.classOfVideo(v);
    const name = said ? (said.none ? "none of these" : said.class) : "";
    return el("div", { className: "group" + (v === page.item.v ? " here" : "") },
      el("span", { className: "name", title: video.name }, el("bdi", {}, video.name)), el("small", {}, el("bdi", {}, name || "")), el("span", { className: "dots" }, ...dots));
  });
  const title = view.kind === "correction" ? "Labels to look at again" : "Frames";
  const other = page.looks
    ? button(view.kind === "correction" ? "back to the new frames" : `second look at ${page.looks} label${page.looks === 1 ? "" : "s"}`, "L", () => page.otherDesk())
    : null;
  return section(title, el("div", { className: "groups" }, ...groups), other);
}

function segments(page) {
  const video = page.view.videos[page.item.v];
  if (page.view.kind === "correction") return null;
  const rows = video.segments.map((part, place) => el("li", {},
    el("button", { type: "button", className: "link", on: { click: () => page.look(part.first) } },
      `${clock(page.times.at(part.first))} – ${clock(page.times.at(part.end - 1))}`), " ", el("bdi", {}, part.class || ""), " ",
    button("×", "", () => page.removeSegment(place), { title: "remove this part" })));
  const begun = page.begun !== null ? el("p", { className: "faint" }, `begins at frame ${page.begun}; ] ends it at the frame you look at`) : null;
  const text = "In a long video: [ where an action begins, ] where it ends. The parts go to segments.csv, for --segments.";
  return el("details", { id: "parts", className: "section", open: rows.length > 0 || page.begun !== null }, el("summary", {}, `Where an action begins and ends${rows.length ? ` (${rows.length})` : ""}`),
    el("p", { className: "faint" }, text), begun, el("ul", { className: "parts" }, ...rows));
}

function people(page) {
  const { agreement } = page.stats;
  if (!agreement) return null;
  const text = agreement.frames
    ? `${agreement.frames} frames labeled by two: IoU ${agreement.iou.toFixed(2)}, same class ${Math.round(100 * agreement.same_class)}%, ${agreement.to_third} wait for a third`
    : "no frame has been labeled by two yet";
  return section("Agreement", el("p", {}, text));
}

// What the machine does just now, and how far it is.
export function atWork(told) {
  const bar = el("div", { className: "bar" }, el("i"));
  bar.firstChild.style.width = `${Math.round(100 * told.progress)}%`;
  const stages = { intake: "reading the labels", train: "training", extract: "scoring all videos", select: "choosing frames", evaluate: "evaluating" };
  const text = `${stages[told.stage] || told.stage || "working"} … ${told.progress ? Math.round(100 * told.progress) + "%" : ""}`;
  return [el("p", {}, text), bar, el("p", { className: "faint" }, told.silent ? "Nothing heard for ten minutes; see the log." : "You may close this page: it goes on.")];
}

function machine(page) {
  const { about } = page;
  const told = about.machine;
  const [done, all] = page.counts();
  const rows = [];
  if (about.newer !== null && about.newer !== undefined) {
    rows.push(button(`Label the frames of cycle ${about.newer}`, "", () => page.newest(), { className: "primary" }));
  }
  if (told.state === "running") {
    rows.push(...atWork(told));
  } else {
    if (told.state === "failed") rows.push(el("p", { className: "warning" }, `It stopped: ${told.message}`));
    if (told.state === "done") rows.push(el("p", {}, told.message || "The run is finished."));
    if (!about.test_set && page.view.kind === "answers" && told.state !== "done" && (about.newer === null || about.newer === undefined)) {
      rows.push(button("Train, then choose the next frames", "", () => page.start(), { id: "start", className: done === all ? "primary" : "" }));
      if (done < all) rows.push(el("p", { className: "faint" }, `${done} of ${all} frames are labeled. That may be enough: the others stay unlabeled.`));
    }
  }
  if (about.labeled && page.view.kind === "answers" && told.state !== "running") {
    rows.push(el("p", { className: "faint" }, "The labels of this cycle have been taken in; a second look corrects them."));
  }
  if (about.curve.points?.length) rows.push(curve(about.curve));
  else if (about.curve.message) rows.push(el("p", { className: "faint" }, about.curve.message));
  if (told.log) rows.push(el("details", { id: "log" }, el("summary", {}, "Log"), el("pre", {}, told.log)));
  return section("The machine’s part", ...rows);
}

// Scores over labeled frames with their intervals, and what the next labels may bring.
export function curve(told) {
  const space = "http://www.w3.org/2000/svg";
  const make = (tag, about, text) => {
    const element = document.createElementNS(space, tag);
    Object.entries(about).forEach(([name, value]) => element.setAttribute(name, value));
    if (text !== undefined) element.textContent = text;
    return element;
  };
  const rows = told.points.filter((row) => Number.isFinite(row.score) && Number.isFinite(row.frames));
  const { next } = told;
  const [width, height, left, bottom, top] = [280, 150, 30, 24, 10];
  const far = next ? [next.frames] : [];
  const most = Math.max(...rows.map((row) => row.frames), ...far);
  const highest = Math.max(10, ...rows.flatMap((row) => [row.score, row.high || 0]), next ? next.high : 0);
  const high = Math.min(100, Math.ceil((highest + 1) / 10) * 10);
  const x = (frames) => left + (frames / most) * (width - left - 14);
  const y = (score) => height - bottom - (score / high) * (height - bottom - top);
  const svg = make("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", class: "curve", "aria-label": "score by labeled frames" });
  for (const score of [0, high / 2, high]) {
    svg.append(make("line", { x1: left, x2: width - 8, y1: y(score), y2: y(score), class: "grid" }), make("text", { x: left - 5, y: y(score) + 4, "text-anchor": "end" }, String(score)));
  }
  const interval = (at, low, up, name) => svg.append(make("line", { x1: x(at), x2: x(at), y1: y(low), y2: y(up), class: name }));
  rows.forEach((row, place) => {
    if (Number.isFinite(row.low) && Number.isFinite(row.high)) interval(row.frames, row.low, row.high, "interval");
    const crowded = rows.length > 5 && place % 2 && place < rows.length - 1;
    if (!crowded) svg.append(make("text", { x: x(row.frames), y: height - 8, "text-anchor": "middle" }, String(row.frames)));
  });
  svg.append(make("polyline", { points: rows.map((row) => `${x(row.frames)},${y(row.score)}`).join(" "), class: "line" }));
  rows.forEach((row) => svg.append(make("circle", { cx: x(row.frames), cy: y(row.score), r: 3.2, class: "point" })));
  if (next && Number.isFinite(next.low) && Number.isFinite(next.high)) {
    interval(next.frames, next.low, next.high, "interval coming");
    svg.append(make("text", { x: x(next.frames), y: height - 8, "text-anchor": "middle" }, String(next.frames)));
  }
  const what = told.source === "random share" ? "agreement with the labels of the random share" : "f-mAP@.5 on the test labels";
  return el("figure", {}, svg, el("figcaption", {}, `${what}, percent, by labeled frames${next ? "; dashed: what the next labels may bring" : ""}`),
    told.message ? el("p", { className: "faint" }, told.message) : null);
}
