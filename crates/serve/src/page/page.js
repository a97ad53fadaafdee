"use strict";

const SVG = "http://www.w3.org/2000/svg";
// As thick in the square as MNIST's strokes are in theirs.
const PEN = 22;
// Points beyond this many say nothing more and make a slow map.
const MOST_POINTS = 2000;

const verdict = document.getElementById("verdict");
const sides = {};
let asked = 0;
let pause;
let map;
// Kept nowhere else: other pages of this host could read it there.
let key = "";

// Asks the service, with the key if there is one, and shows where to enter it if it is missing or wrong.
async function call(path, options = {}) {
  const headers = key ? { Authorization: `Bearer ${key}` } : {};
  const response = await fetch(path, { ...options, headers });
  if (response.status === 401) document.getElementById("locked").hidden = false;
  return response;
}

function element(name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

// A square to draw in, which shows a chosen file instead.
class Side {
  constructor(section) {
    this.section = section;
    this.canvas = section.querySelector("canvas");
    this.pen = this.canvas.getContext("2d");
    this.input = section.querySelector("input");
    this.treatment = section.querySelector(".treatment");
    this.clear();

    let last = null;
    this.canvas.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      event.preventDefault();
      this.canvas.setPointerCapture(event.pointerId);
      if (this.file) this.clear();
      last = this.at(event);
      this.stroke(last, last);
    });
    this.canvas.addEventListener("pointermove", (event) => {
      if (!last) return;
      const now = this.at(event);
      this.stroke(last, now);
      last = now;
    });
    const lift = () => {
      if (!last) return;
      last = null;
      this.drawn = true;
      askSoon();
    };
    this.canvas.addEventListener("pointerup", lift);
    this.canvas.addEventListener("pointercancel", lift);

    section.querySelector(".clear").addEventListener("click", () => {
      this.clear();
      ask();
    });
    this.input.addEventListener("change", () => this.choose(this.input.files[0]));
    section.addEventListener("dragover", (event) => {
      event.preventDefault();
      section.classList.add("over");
    });
    section.addEventListener("dragleave", () => section.classList.remove("over"));
    section.addEventListener("drop", (event) => {
      event.preventDefault();
      section.classList.remove("over");
      this.choose(event.dataTransfer.files[0]);
    });
  }

  at(event) {
    const box = this.canvas.getBoundingClientRect();
    return [
      ((event.clientX - box.left) / box.width) * this.canvas.width,
      ((event.clientY - box.top) / box.height) * this.canvas.height,
    ];
  }

  stroke([fromX, fromY], [toX, toY]) {
    this.pen.lineWidth = PEN;
    this.pen.lineCap = "round";
    this.pen.lineJoin = "round";
    this.pen.strokeStyle = "#000";
    this.pen.beginPath();
    this.pen.moveTo(fromX, fromY);
    this.pen.lineTo(toX, toY);
    this.pen.stroke();
  }

  clear() {
    this.pen.fillStyle = "#fff";
    this.pen.fillRect(0, 0, this.canvas.width, this.canvas.height);
    this.drawn = false;
    this.file = null;
    this.input.value = "";
    this.treatment.textContent = "";
  }

  async choose(file) {
    if (!file) return;
    this.clear();
    this.file = file;
    ask();
    try {
      const picture = await createImageBitmap(file);
      if (this.file !== file) return;
      const scale = Math.min(this.canvas.width / picture.width, this.canvas.height / picture.height);
      const [width, height] = [picture.width * scale, picture.height * scale];
      const [x, y] = [(this.canvas.width - width) / 2, (this.canvas.height - height) / 2];
      this.pen.drawImage(picture, x, y, width, height);
    } catch {
      // Not a picture: the service says so.
    }
  }

  get empty() {
    return !this.drawn && !this.file;
  }

  content() {
    return this.file ?? new Promise((done) => this.canvas.toBlob(done, "image/png"));
  }
}

// After the pen has rested a moment: a digit may take several strokes.
function askSoon() {
  clearTimeout(pause);
  pause = setTimeout(ask, 300);
}

async function ask() {
  clearTimeout(pause);
  const mine = ++asked;
  const { a, b } = sides;
  if (a.empty || b.empty) {
    say(a.empty && b.empty
      ? "Draw in both squares, or drop or choose two pictures."
      : `Now the ${a.empty ? "first" : "second"} picture.`);
    show(null);
    return;
  }
  let answer;
  try {
    const form = new FormData();
    form.append("a", await a.content(), "a");
    form.append("b", await b.content(), "b");
    const response = await call("verify", { method: "POST", body: form });
    answer = await response.json();
  } catch {
    answer = { error: "the service does not answer; is it still running?" };
  }
  // A later question's answer counts.
  if (mine !== asked) return;
  if (answer.error) {
    say(`No verdict: ${answer.error}.`);
    show(null);
    return;
  }
  const { same, distance, threshold } = answer;
  const strong = document.createElement("strong");
  strong.className = same ? "same" : "different";
  strong.textContent = same ? "The same" : "Different";
  verdict.replaceChildren(
    strong,
    `: distance ${distance.toFixed(4)}, ${same ? "within" : "beyond"} the threshold ${threshold.toFixed(4)}.`,
  );
  show(answer);
}

function say(text) {
  verdict.textContent = text;
}

// The distance beside the threshold, the two on the map, and what was done to the pictures.
function show(answer) {
  for (const side of ["a", "b"]) {
    const done = answer?.[side].treatment.join("; ") ?? "";
    sides[side].treatment.textContent = done && `${done[0].toUpperCase()}${done.slice(1)}.`;
  }
  drawScale(answer);
  drawPlaces(answer);
}

function drawScale(answer) {
  const scale = document.getElementById("scale");
  scale.toggleAttribute("hidden", !answer);
  scale.replaceChildren();
  if (!answer) return;
  const { distance, threshold } = answer;
  const longest = Math.max(distance, threshold * 2) * 1.1 || 1;
  const x = (value) => 8 + (value / longest) * 584;
  scale.setAttribute("aria-label", `Distance ${distance.toFixed(4)} on a scale with the threshold ${threshold.toFixed(4)}`);
  const bar = (from, to, colour) =>
    element("rect", { x: from, y: 24, width: Math.max(to - from, 0), height: 8, fill: colour, opacity: 0.35 });
  const end = threshold / longest > 0.8 ? "end" : "middle";
  scale.append(
    bar(x(0), x(threshold), "var(--same)"),
    bar(x(threshold), x(longest), "var(--different)"),
    element("line", { x1: x(threshold), x2: x(threshold), y1: 18, y2: 38, stroke: "var(--text)", "stroke-width": 2 }),
    element("text", { x: x(threshold), y: 40, "dominant-baseline": "hanging", "text-anchor": end }, "threshold"),
    element("circle", { cx: x(distance), cy: 28, r: 8, fill: answer.same ? "var(--same)" : "var(--different)" }),
  );
}

const colour = (label, classes) => `hsl(${(label * 360) / classes} 65% 50%)`;

function drawMap(points, labels, classes) {
  const svg = document.getElementById("map");
  const xs = points.map(([x]) => x);
  const ys = points.map(([, y]) => y);
  const middle = (values) => (Math.min(...values) + Math.max(...values)) / 2;
  const span = Math.max(Math.max(...xs) - Math.min(...xs), Math.max(...ys) - Math.min(...ys)) || 1;
  const [side, edge] = [600, 30];
  const unit = (side - 2 * edge) / span;
  const [centreX, centreY] = [middle(xs), middle(ys)];
  // A picture unlike all others stays on the map's edge.
  const inside = (value) => Math.min(Math.max(value, 12), side - 12);
  map = {
    place: ([x, y]) => [side / 2 + (x - centreX) * unit, side / 2 - (y - centreY) * unit],
    inside,
    marks: element("g", {}),
  };
  svg.setAttribute("viewBox", `0 0 ${side} ${side}`);
  const step = Math.ceil(points.length / MOST_POINTS);
  for (let i = 0; i < points.length; i += step) {
    const [cx, cy] = map.place(points[i]);
    svg.append(element("circle", { class: "point", cx, cy, r: 2.5, fill: colour(labels[i], classes.length) }));
  }
  const median = (values) => values.sort((one, other) => one - other)[values.length >> 1];
  classes.forEach((name, label) => {
    const members = points.filter((_, i) => labels[i] === label);
    if (!members.length) return;
    const [x, y] = map.place([median(members.map(([x]) => x)), median(members.map(([, y]) => y))]);
    svg.append(element("text", { class: "class", x, y }, name));
  });
  svg.append(map.marks);
}

function drawPlaces(answer) {
  if (!map) return;
  map.marks.replaceChildren();
  if (!answer?.a.place) return;
  const spots = ["a", "b"].map((side) => map.place(answer[side].place).map(map.inside));
  const [[x1, y1], [x2, y2]] = spots;
  map.marks.append(element("line", { class: "joined", x1, y1, x2, y2 }));
  ["a", "b"].forEach((side, i) => {
    const [x, y] = spots[i];
    const place = element("g", { class: `place ${side}`, transform: `translate(${x} ${y})` });
    place.append(element("circle", { r: 11 }), element("text", {}, side.toUpperCase()));
    map.marks.append(place);
  });
}

async function start() {
  for (const section of document.querySelectorAll(".picture")) {
    sides[section.dataset.side] = new Side(section);
  }
  // A picture dropped beside the squares would replace the page.
  for (const event of ["dragover", "drop"]) {
    document.addEventListener(event, (dropped) => dropped.preventDefault());
  }
  const locked = document.getElementById("locked");
  locked.addEventListener("submit", (event) => {
    event.preventDefault();
    key = locked.querySelector("[type=password]").value.trim();
    locked.hidden = true;
    showMap();
    ask();
  });
  await showMap();
}

// Once the service may be asked.
async function showMap() {
  const { model } = await (await fetch("health")).json();
  const [channels, height, width] = model.input;
  document.getElementById("model").textContent =
    `${width}×${height} pixels, ${channels === 1 ? "grey" : "colour"}, to ${model.embedding} dimensions`;
  if (!model.map || map) return;
  const response = await call("map");
  if (!response.ok) return;
  const { points, labels, classes, projected } = await response.json();
  document.getElementById("where-text").textContent =
    `${points.length} test images, a colour a class` +
    (projected ? `; the two main directions of ${model.embedding} dimensions.` : ".");
  document.getElementById("where").hidden = false;
  drawMap(points, labels, classes);
}

start();
