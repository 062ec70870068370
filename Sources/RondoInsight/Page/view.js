// Drawing and input. Everything is drawn anew for each frame; a bar of less than a pixel is merged with its neighbours.

const byId = (id) => document.getElementById(id);
const escapeText = (text) => String(text).replace(/[&<>"']/g, (c) => "&#" + c.charCodeAt(0) + ";");
const canvas = byId("lanes"), overview = byId("overview"), tip = byId("tip"), panel = byId("panel");
const pen = canvas.getContext("2d"), overviewPen = overview.getContext("2d");

const LOOP_HEIGHT = 46, LANE_HEIGHT = 20, AXIS_HEIGHT = 26, HEAD_HEIGHT = 24;
const view = { from: 0, to: Math.max(span, 1), top: 0 };
let gutter = 190, colours = {}, rows = [], contentHeight = 0, selected = null, hovered = null, path = null;
let needle = "", step = null, moments = [], moment = 0, playing = 0, frame = 0, overviewImage = null;

// MARK: Colours

const shownGroups = [
  ["running", "running"], ["ready", "ready"], ["receive", "receive"], ["send", "send"], ["accept", "accept"],
  ["connect", "connect"], ["file", "files"], ["offload", "offload pool"], ["sleep", "sleep"], ["task", "another task"],
  ["other", "thread, loop"],
];

function readColours() {
  const style = getComputedStyle(document.documentElement);
  const names = ["back", "raised", "line", "text", "soft", "faint", "accent", "span", "select", "stripe", "shade", "running2",
    "running3", ...shownGroups.map(([name]) => name)];
  for (const name of names) colours[name] = style.getPropertyValue("--" + name).trim();
  colours.jobs = [colours.running, colours.running2, colours.running3];
  byId("legend").innerHTML = "<span>waits are thin bars:</span>" + shownGroups.map(([name, words]) =>
    `<span><i class="dot" style="background:${colours[name]}"></i>${words}</span>`).join("");
  overviewImage = null;
}

function colourOf(i) {
  if (stretches.state[i] === RUNNING) return colours.running;
  return stretches.state[i] === READY ? colours.ready : colours[waitGroup(i)];
}

// MARK: Rows

const orders = {
  start: (a, b) => a.start - b.start || a.index - b.index,
  running: (a, b) => b.time[RUNNING] - a.time[RUNNING],
  waiting: (a, b) => b.time[WAITING] - a.time[WAITING],
};

function tree() {
  const children = new Map(), out = [];
  for (const task of tasks) {
    const parent = task.parent < 0 || task.parent === task.index ? -1 : task.parent;
    if (!children.has(parent)) children.set(parent, []);
    children.get(parent).push(task);
  }
  const seen = new Set();
  const stack = (children.get(-1) || []).slice().sort(orders.start).reverse().map((task) => [task, 0]);
  while (stack.length) {
    const [task, depth] = stack.pop();
    if (seen.has(task)) continue;
    seen.add(task);
    out.push([task, depth]);
    for (const child of (children.get(task.index) || []).sort(orders.start).reverse()) stack.push([child, depth + 1]);
  }
  for (const task of tasks) if (!seen.has(task)) out.push([task, 0]);
  return out;
}

function layOut() {
  rows = [];
  let y = 0;
  const add = (row, height) => { rows.push({ ...row, y, height }); y += height; };
  add({ head: "Loops" }, HEAD_HEIGHT);
  trace.loops.forEach((loop, index) => add({ loop: index, title: "loop " + loop.number + " · " + loop.driver }, LOOP_HEIGHT));
  poolRows().forEach((calls, index) => add({ calls, title: index ? "" : "offload pool" }, LANE_HEIGHT));
  const order = byId("order").value;
  let list = order === "tree" ? tree() : tasks.slice().sort(orders[order]).map((task) => [task, 0]);
  const total = list.length;
  const matches = (text) => text.toLowerCase().includes(needle);
  if (needle) list = list.filter(([task]) => matches(task.title) || spanNames(task.index).some(matches));
  const count = needle ? grouped(list.length) + " of " + grouped(total) : grouped(total);
  add({ head: "Tasks", count }, HEAD_HEIGHT);
  for (const [task, depth] of list) {
    add({ task, title: task.title, depth }, LANE_HEIGHT);
    for (const list of spanRows(task.index)) add({ spans: list, title: "" }, SPAN_HEIGHT);
  }
  contentHeight = y;
  view.top = Math.max(0, Math.min(view.top, contentHeight - laneHeight()));
}

// Calls of the pool that overlap stand in rows of their own.
let packed = null;
function poolRows() {
  if (packed) return packed;
  packed = [];
  const ends = [];
  const list = Array.from({ length: offloads.count }, (_, i) => i).sort((a, b) => offloads.start[a] - offloads.start[b]);
  for (const i of list) {
    let row = ends.findIndex((end) => end <= offloads.start[i]);
    if (row < 0) row = ends.length;
    ends[row] = offloads.end[i];
    (packed[row] = packed[row] || []).push(i);
  }
  return packed = packed.slice(0, 16);
}

// MARK: Drawing

const laneHeight = () => canvas.clientHeight - AXIS_HEIGHT;
const width = () => canvas.clientWidth - gutter;
const toX = (time) => gutter + (time - view.from) / (view.to - view.from) * width();
const toTime = (x) => view.from + (x - gutter) / width() * (view.to - view.from);

function fitCanvas(target, context) {
  const ratio = window.devicePixelRatio || 1, w = target.clientWidth, h = target.clientHeight;
  if (target.width !== Math.round(w * ratio) || target.height !== Math.round(h * ratio)) {
    target.width = Math.round(w * ratio);
    target.height = Math.round(h * ratio);
  }
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  return [w, h];
}

function redraw() {
  if (!frame) frame = requestAnimationFrame(draw);
}

function draw() {
  frame = 0;
  gutter = Math.max(110, Math.min(230, canvas.clientWidth * .2));
  const [w, h] = fitCanvas(canvas, pen);
  pen.fillStyle = colours.back;
  pen.fillRect(0, 0, w, h);
  pen.font = "12px system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', sans-serif";
  pen.textBaseline = "middle";
  pen.save();
  pen.beginPath();
  pen.rect(0, AXIS_HEIGHT, w, h - AXIS_HEIGHT);
  pen.clip();
  drawGrid(w, h);
  let first = after(rows, view.top, 0, rows.length, (row) => row.y + row.height);
  for (let r = first; r < rows.length && rows[r].y < view.top + h; r++) drawRow(rows[r], w, r);
  if (path) drawPath();
  if (step) drawNeedle(h);
  pen.restore();
  drawAxis(w);
  drawOverview();
  if (!document.body.dataset.painted) document.body.dataset.painted = Math.round(performance.now());
}

function ticks() {
  const wanted = width() / 110, rough = (view.to - view.from) / wanted;
  const power = Math.pow(10, Math.floor(Math.log10(rough)));
  const size = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= rough) || rough;
  const list = [];
  for (let time = Math.ceil(view.from / size) * size; time < view.to; time += size) list.push(time);
  return [list, size];
}

function tickLabel(time, size) {
  const unit = size >= 1e9 ? [1e9, "s"] : size >= 1e6 ? [1e6, "ms"] : size >= 1e3 ? [1e3, "µs"] : [1, "ns"];
  const decimals = Math.max(0, -Math.floor(Math.log10(size / unit[0]) + 1e-9));
  return (time / unit[0] + 0 || 0).toLocaleString("en-US", { maximumFractionDigits: decimals }) + " " + unit[1];
}

function drawGrid(w, h) {
  pen.strokeStyle = colours.line;
  pen.beginPath();
  for (const time of ticks()[0]) {
    const x = Math.round(toX(time)) + .5;
    if (x < gutter) continue;
    pen.moveTo(x, AXIS_HEIGHT);
    pen.lineTo(x, h);
  }
  pen.stroke();
}

function drawAxis(w) {
  pen.fillStyle = colours.raised;
  pen.fillRect(0, 0, w, AXIS_HEIGHT);
  pen.fillStyle = colours.soft;
  const [list, size] = ticks();
  pen.textAlign = "left";
  for (const time of list) {
    const x = toX(time);
    if (x >= gutter) pen.fillText(tickLabel(time, size), x + 4, AXIS_HEIGHT / 2);
  }
  pen.fillStyle = colours.raised;
  pen.fillRect(0, 0, gutter, AXIS_HEIGHT);
  pen.fillStyle = colours.soft;
  pen.fillText("showing " + duration(view.to - view.from), 12, AXIS_HEIGHT / 2);
  pen.strokeStyle = colours.line;
  pen.beginPath();
  pen.moveTo(0, AXIS_HEIGHT - .5);
  pen.lineTo(w, AXIS_HEIGHT - .5);
  pen.stroke();
}

function drawRow(row, w, number) {
  const y = AXIS_HEIGHT + row.y - view.top;
  if (row.head) {
    pen.fillStyle = colours.raised;
    pen.fillRect(0, y, w, row.height);
    pen.fillStyle = colours.text;
    pen.font = "600 " + pen.font;
    pen.fillText(row.head, 12, y + row.height / 2 + 1);
    const after = pen.measureText(row.head).width;
    pen.font = pen.font.replace(/^600 |^bold /, "");
    pen.fillStyle = colours.soft;
    if (row.count) pen.fillText(row.count, 12 + after + 8, y + row.height / 2 + 1);
    return;
  }
  const isSelected = selected && row.task && selected.task === row.task.index;
  if (isSelected) pen.fillStyle = colours.select; else pen.fillStyle = number % 2 ? colours.stripe : colours.back;
  if (isSelected || number % 2) {
    pen.globalAlpha = isSelected ? 1 : .7;
    pen.fillRect(0, y, w, row.height);
    pen.globalAlpha = 1;
  }
  pen.save();
  pen.beginPath();
  pen.rect(gutter, y, w - gutter, row.height);
  pen.clip();
  if (row.task) drawTask(row.task, y, row.height);
  else if (row.calls) drawCalls(row.calls, y, row.height);
  else if (row.spans) drawSpans(row.spans, y, row.height);
  else drawLoop(row.loop, y, row.height);
  pen.restore();
  pen.fillStyle = isSelected ? colours.accent : row.task && !row.task.name ? colours.soft : colours.text;
  pen.fillText(fitText(row.title, gutter - 20 - indent(row)), 12 + indent(row), y + row.height / 2 + 1);
}

const indent = (row) => Math.min(row.depth || 0, 7) * 10;

const widths = new Map();
function fitText(text, room) {
  const key = text + "|" + Math.round(room);
  if (widths.has(key)) return widths.get(key);
  let fitted = text;
  if (pen.measureText(text).width > room) {
    let low = 0, high = text.length;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (pen.measureText(text.slice(0, middle) + "…").width <= room) low = middle; else high = middle - 1;
    }
    fitted = low ? text.slice(0, low) + "…" : "";
  }
  if (widths.size > 20000) widths.clear();
  widths.set(key, fitted);
  return fitted;
}

function drawTask(task, y, height) {
  const low = view.from, high = view.to, scale = width() / (high - low);
  let p = Math.max(task.from, after(places, low, task.from, task.to, (i) => stretches.end[i]) - 1);
  const room = { x: -1, share: [0, 0, 0], wait: -1, strips: [[], [], []] };
  for (; p < task.to; p++) {
    const i = places[p], start = stretches.start[i];
    if (start > high) break;
    const x = gutter + (start - low) * scale, end = gutter + (stretches.end[i] - low) * scale;
    const state = stretches.state[i];
    if (end - x < 1) {
      // Many bars within a pixel are drawn together, each as strong as its share of it.
      if (Math.floor(x) !== room.x) {
        addShares(room);
        room.x = Math.floor(x);
      }
      room.share[state] += end - x + (state === RUNNING ? .02 : 0);
      if (state === WAITING) room.wait = i;
      continue;
    }
    const from = Math.max(gutter - 2, x), to = Math.min(canvas.clientWidth + 2, end);
    if (to < from) continue;
    pen.fillStyle = colourOf(i);
    if (state === WAITING) {
      pen.globalAlpha = stretches.wait[i] >= WAIT_TASK ? .55 : .8;
      pen.fillRect(from, y + height / 2 - 2, to - from, 4);
      pen.globalAlpha = 1;
    } else if (state === READY) pen.fillRect(from, y + 5, to - from, height - 10);
    else pen.fillRect(from, y + 2, to - from, height - 4);
    if (end - x > 46 && state === WAITING) {
      const words = fitText(waitWords(i), Math.min(to, canvas.clientWidth) - Math.max(from, gutter) - 12);
      if (words) {
        const at = Math.max(from, gutter) + 6, size = pen.measureText(words).width;
        pen.fillStyle = colours.back;
        pen.fillRect(at - 3, y + 3, size + 6, height - 6);
        pen.fillStyle = colours.soft;
        pen.fillText(words, at, y + height / 2 + 1);
      }
    }
  }
  addShares(room);
  drawStrips(room, y, height);
}

// What stands within a pixel: a strip for each state, as strong as its share. Equal pixels side by side become one strip.
function addShares(room) {
  if (room.x >= gutter) {
    for (let state = 0; state < 3; state++) {
      const share = room.share[state];
      if (!share) continue;
      const level = state === WAITING ? 4 : Math.max(state === RUNNING ? 2 : 1, Math.ceil(Math.min(1, share) * 4));
      const colour = state === RUNNING ? colours.running : state === READY ? colours.ready : colours[waitGroup(room.wait)];
      const last = room.strips[state][room.strips[state].length - 1];
      if (last && last.to === room.x && last.level === level && last.colour === colour) last.to++;
      else room.strips[state].push({ from: room.x, to: room.x + 1, level, colour });
    }
  }
  room.share.fill(0);
}

function drawStrips(room, y, height) {
  for (const state of [WAITING, READY, RUNNING]) {
    const inset = state === WAITING ? height / 2 - 2 : state === READY ? 5 : 2;
    for (const strip of room.strips[state]) {
      pen.fillStyle = strip.colour;
      pen.globalAlpha = .2 + .2 * strip.level;
      pen.fillRect(strip.from, y + inset, strip.to - strip.from, height - 2 * inset);
    }
  }
  pen.globalAlpha = 1;
}

function drawLoop(loop, y, height) {
  const low = view.from, high = view.to, scale = width() / (high - low), list = jobs[loop], bar = height - 20;
  let p = Math.max(0, after(list, low, 0, list.length, (i) => stretches.end[i]) - 1);
  const room = { x: -1, share: [0, 0, 0], wait: -1, strips: [[], [], []] };
  for (; p < list.length; p++) {
    const i = list[p], start = stretches.start[i];
    if (start > high) break;
    const x = gutter + (start - low) * scale, end = gutter + (stretches.end[i] - low) * scale;
    if (end - x < 1) {
      if (Math.floor(x) !== room.x) {
        addShares(room);
        room.x = Math.floor(x);
      }
      room.share[RUNNING] += end - x;
      continue;
    }
    const from = Math.max(gutter - 2, x), to = Math.min(canvas.clientWidth + 2, Math.max(end, x + 1));
    pen.fillStyle = colours.jobs[stretches.task[i] % 3];
    pen.fillRect(from, y + 3, to - from, bar);
    if (to - from > 44) {
      const words = fitText(tasks[stretches.task[i]].title, to - Math.max(from, gutter) - 10);
      pen.fillStyle = colours.back;
      pen.fillText(words, Math.max(from, gutter) + 5, y + 3 + bar / 2 + 1);
    }
  }
  addShares(room);
  drawStrips(room, y + 1, bar + 4);
  drawQueue(queues[loop], y + height - 3, 12, low, scale);
}

// The ready queue's length, as the most in each pixel.
function drawQueue(queue, base, height, low, scale) {
  const count = queue.time.length, pixels = Math.ceil(width());
  if (!count) return;
  const most = queue.most || (queue.most = queue.length.reduce((a, b) => Math.max(a, b), 1));
  let p = after(queue.time, low) - 1, length = p >= 0 ? queue.length[p] : 0;
  pen.fillStyle = colours.ready;
  let from = 0, drawn = 0;
  const strip = (to, size) => {
    if (size === drawn) return;
    if (drawn) pen.fillRect(gutter + from, base - drawn, to - from, drawn);
    from = to;
    drawn = size;
  };
  for (let x = 0; x < pixels; x++) {
    const end = low + (x + 1) / scale;
    let top = length;
    while (p + 1 < count && queue.time[p + 1] < end) {
      length = queue.length[++p];
      if (length > top) top = length;
    }
    strip(x, top ? Math.max(1, Math.round(top / most * height)) : 0);
  }
  strip(pixels, 0);
}

function drawCalls(calls, y, height) {
  let p = Math.max(0, after(calls, view.from, 0, calls.length, (i) => offloads.end[i]) - 1), doneX = -1;
  for (; p < calls.length; p++) {
    const i = calls[p];
    if (offloads.start[i] > view.to) break;
    const x = toX(offloads.start[i]), end = toX(offloads.end[i]);
    if (end - x < 1 && Math.floor(x) === doneX) continue;
    doneX = Math.floor(x);
    pen.fillStyle = colours.offload;
    pen.fillRect(Math.max(gutter, x), y + 3, Math.max(1, Math.min(end, canvas.clientWidth) - Math.max(gutter, x)), height - 6);
  }
}

function rowOf(task) {
  if (!rows.lookup || rows.lookup.size === 0) {
    rows.lookup = new Map();
    for (const row of rows) if (row.task) rows.lookup.set(row.task.index, row);
  }
  return rows.lookup.get(task);
}

function drawPath() {
  pen.strokeStyle = colours.accent;
  pen.lineWidth = 2;
  pen.beginPath();
  let before = null;
  for (const piece of path) {
    const row = rowOf(piece.task);
    if (!row) continue;
    const y = AXIS_HEIGHT + row.y - view.top + row.height - 2;
    const from = Math.max(gutter, toX(piece.start)), to = Math.max(gutter, toX(piece.end));
    if (before !== null && before !== y) {
      pen.moveTo(from, before);
      pen.lineTo(from, y);
    }
    pen.moveTo(from, y);
    pen.lineTo(Math.max(to, from + 1), y);
    before = y;
  }
  pen.stroke();
  pen.lineWidth = 1;
}

function drawNeedle(h) {
  const x = Math.round(toX(moments[moment].time)) + .5;
  if (x < gutter) return;
  pen.strokeStyle = colours.accent;
  pen.beginPath();
  pen.moveTo(x, AXIS_HEIGHT);
  pen.lineTo(x, h);
  pen.stroke();
}

// How busy the loops are, all over the trace.
function drawOverview() {
  const [w, h] = fitCanvas(overview, overviewPen);
  if (!overviewImage || overviewImage.length !== Math.ceil(w)) {
    overviewImage = new Float64Array(Math.ceil(w));
    const slice = Math.max(span, 1) / w;
    for (const list of jobs) {
      for (const i of list) {
        let at = stretches.start[i] / slice;
        const end = stretches.end[i] / slice;
        while (at < end) {
          const next = Math.min(end, Math.floor(at) + 1);
          overviewImage[Math.min(Math.floor(at), overviewImage.length - 1)] += next - at;
          at = next;
        }
      }
    }
  }
  const x = (time) => time / Math.max(span, 1) * w;
  overviewPen.fillStyle = colours.raised;
  overviewPen.fillRect(0, 0, w, h);
  overviewPen.fillStyle = colours.running;
  for (let i = 0; i < overviewImage.length; i++) {
    const share = Math.min(1, overviewImage[i] / trace.loops.length), size = share * (h - 8);
    if (share > 0) overviewPen.fillRect(i, h - Math.max(1, size), 1, Math.max(1, size));
  }
  const from = x(view.from), to = Math.max(x(view.to), from + 3);
  overviewPen.fillStyle = colours.back;
  overviewPen.globalAlpha = .72;
  overviewPen.fillRect(0, 0, from, h);
  overviewPen.fillRect(to, 0, w - to, h);
  overviewPen.globalAlpha = 1;
  overviewPen.strokeStyle = colours.accent;
  overviewPen.strokeRect(from + .5, .5, Math.max(2, to - from - 1), h - 1);
  if (step) {
    overviewPen.fillStyle = colours.accent;
    overviewPen.fillRect(x(moments[moment].time) - .5, 0, 1.5, h);
  }
}

// MARK: Moving

function show(from, to) {
  const size = Math.max(20, Math.min(to - from, Math.max(span, 1) * 1.02));
  const middle = (from + to) / 2, margin = Math.max(span, 1) * .01;
  view.from = Math.max(-margin, Math.min(middle - size / 2, Math.max(span, 1) + margin - size));
  view.to = view.from + size;
  redraw();
}
const zoom = (factor, time = (view.from + view.to) / 2) =>
  show(time - (time - view.from) * factor, time + (view.to - time) * factor);
const pan = (share) => show(view.from + (view.to - view.from) * share, view.to + (view.to - view.from) * share);
function scroll(pixels) {
  view.top = Math.max(0, Math.min(view.top + pixels, contentHeight - laneHeight()));
  redraw();
}
function fit() {
  const task = selected && tasks[selected.task];
  if (task && task.end > task.start && !(view.from <= task.start && view.to >= task.end && view.to - view.from < span)) {
    const margin = (task.end - task.start) * .05;
    show(task.start - margin, task.end + margin);
  } else show(0, span);
}
function reveal(task) {
  const row = rowOf(task);
  if (!row) return;
  if (row.y < view.top || row.y + row.height > view.top + laneHeight()) scroll(row.y - laneHeight() / 2 - view.top);
}

// MARK: Finding

function hit(x, y) {
  const at = y - AXIS_HEIGHT + view.top;
  const row = y < AXIS_HEIGHT ? null : rows[after(rows, at, 0, rows.length, (r) => r.y + r.height)];
  if (!row || row.head) return null;
  if (x < gutter) return { row, i: -1, task: row.task ? row.task.index : -1 };
  const time = toTime(x), slack = (view.to - view.from) / width() * 2;
  if (row.task) return { row, task: row.task.index, i: nearest(places, row.task.from, row.task.to, time, slack) };
  if (row.spans) {
    const one = spanAt(row.spans, time, slack);
    return { row, span: one, i: -1, task: row.spans[0].task };
  }
  if (row.calls) {
    const p = after(row.calls, time + slack, 0, row.calls.length, (i) => offloads.start[i]) - 1;
    const i = p >= 0 && offloads.end[row.calls[p]] >= time - slack ? row.calls[p] : -1;
    return { row, call: i, i: -1, task: i >= 0 && offloads.task[i] !== NOBODY ? offloads.task[i] : -1 };
  }
  const i = nearest(jobs[row.loop], 0, jobs[row.loop].length, time, slack);
  return { row, i, task: i >= 0 ? stretches.task[i] : -1 };
}

function nearest(list, from, to, time, slack) {
  let p = after(list, time, from, to, (i) => stretches.start[i]) - 1;
  if (p >= from && stretches.end[list[p]] >= time) return list[p];
  for (const q of [p, p + 1]) {
    if (q < from || q >= to) continue;
    const i = list[q];
    if (stretches.start[i] - slack <= time && stretches.end[i] + slack >= time) return i;
  }
  return -1;
}

function showTip(event, found) {
  if (!found || (found.i < 0 && !found.span && !(found.call >= 0))) return void (tip.hidden = true);
  let title, words;
  if (found.span) {
    title = found.span.name;
    words = spanWords(found.span);
  } else if (found.call >= 0) {
    title = found.task >= 0 ? tasks[found.task].title : "a call";
    words = trace.kinds[offloads.kind[found.call]] + " in the offload pool<br>"
      + duration(offloads.end[found.call] - offloads.start[found.call]);
  } else {
    const i = found.i;
    title = tasks[stretches.task[i]].title;
    words = escapeText(stateWords(i)) + (stretches.flags[i] & 1 ? ", still" : "")
      + "<br>" + duration(stretches.end[i] - stretches.start[i]) + ", from " + duration(stretches.start[i]);
    if (stretches.flags[i] & 2) words += "<br>result " + stretches.result[i];
  }
  tip.innerHTML = `<b>${escapeText(title)}</b><span>${words}</span>`;
  tip.hidden = false;
  const x = Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8);
  const y = event.clientY + 18 + tip.offsetHeight > innerHeight ? event.clientY - tip.offsetHeight - 10 : event.clientY + 18;
  tip.style.left = x + "px";
  tip.style.top = y + "px";
}

// MARK: The selected task

function select(task, i = -1) {
  selected = task >= 0 ? { task, i } : null;
  path = null;
  drawPanel();
  redraw();
}

const link = (task) => task >= 0 && tasks[task] ? `<a data-task="${task}">${escapeText(tasks[task].title)}</a>` : "";

function drawPanel() {
  const wasHidden = panel.hidden;
  panel.hidden = !selected;
  document.body.dataset.selected = selected ? tasks[selected.task].title : "";
  if (!selected) return;
  const task = tasks[selected.task], i = selected.i;
  let html = `<button class="x" data-close aria-label="Close">✕</button><h2>${escapeText(task.title)}</h2>`;
  html += `<p>${task.number & 0x80000000 ? "an actor's queue" : "task " + task.number}`;
  if (task.parent >= 0) html += `, ${task.isChild ? "child of" : "made by"} ${link(task.parent)}`;
  html += `</p><table><tr><td>jobs</td><td>${grouped(task.jobs)}</td></tr>`;
  ["running", "ready", "waiting"].forEach((name, state) =>
    html += `<tr><td>${dot(name === "waiting" ? "task" : name)}${name}</td><td>${duration(task.time[state])}</td></tr>`);
  html += `<tr><td>seen</td><td>${duration(task.start)} – ${duration(task.end)}</td></tr></table>`;
  if (i >= 0) {
    html += `<h3>This bar</h3><table><tr><td>${escapeText(stateWords(i))}${stretches.flags[i] & 1 ? ", still" : ""}</td>`
      + `<td>${duration(stretches.end[i] - stretches.start[i])}</td></tr>`;
    html += `<tr><td>from</td><td>${duration(stretches.start[i])}</td></tr>`;
    if (stretches.flags[i] & 2) html += `<tr><td>result</td><td>${stretches.result[i]}</td></tr>`;
    if (stretches.waker[i] !== NOBODY) html += `<tr><td>made ready by</td><td>${link(stretches.waker[i])}</td></tr>`;
    html += "</table>";
  }
  html += waitsOf(task);
  html += `<h3>Critical path</h3>` + (path ? pathTable() : `<p><a data-path>Why did it take so long?</a> (c)</p>`);
  panel.innerHTML = html;
  if (wasHidden) redraw();
}

const dot = (name) => `<i class="dot" style="background:${colours[name]}"></i>`;

function waitsOf(task) {
  const sums = new Map();
  for (let p = task.from; p < task.to; p++) {
    const i = places[p];
    if (stretches.state[i] !== WAITING) continue;
    const words = waitWords(i), sum = sums.get(words) || { time: 0, count: 0, group: waitGroup(i) };
    sum.time += stretches.end[i] - stretches.start[i];
    sum.count++;
    sums.set(words, sum);
  }
  if (!sums.size) return "";
  const list = [...sums].sort((a, b) => b[1].time - a[1].time).slice(0, 8);
  return "<h3>Waited for</h3><table>" + list.map(([words, sum]) => `<tr><td>${dot(sum.group)}${escapeText(words)}`
    + `${sum.count > 1 ? " × " + grouped(sum.count) : ""}</td><td>${duration(sum.time)}</td></tr>`).join("") + "</table>";
}

function showPath() {
  if (!selected) return;
  path = criticalPath(tasks[selected.task]);
  document.body.dataset.path = path.length;
  drawPanel();
  redraw();
}

function pathTable() {
  // Pieces of one task and one reason that follow each other, taken together.
  const groups = [];
  for (const piece of path) {
    const state = stretches.state[piece.i];
    const what = state === WAITING ? stateWords(piece.i) : state === READY ? "ready, behind others" : "running";
    const colour = state === WAITING ? waitGroup(piece.i) : state === READY ? "ready" : "running";
    const last = groups[groups.length - 1];
    if (last && last.task === piece.task && last.what === what) {
      last.time += piece.end - piece.start;
      last.end = piece.end;
    } else groups.push({ task: piece.task, what, colour, time: piece.end - piece.start, start: piece.start, end: piece.end });
  }
  const top = groups.slice().sort((a, b) => b.time - a.time).slice(0, 12).sort((a, b) => a.start - b.start);
  return `<p>${grouped(groups.length)} pieces; the longest, in order:</p><table>` + top.map((group) =>
    `<tr data-at="${group.start}" data-to="${group.end}"><td>${dot(group.colour)}`
    + `${escapeText(tasks[group.task].title)}<br><span style="color:var(--soft)">${escapeText(group.what)}</span></td>`
    + `<td>${duration(group.time)}</td></tr>`).join("") + "</table>";
}

panel.addEventListener("click", (event) => {
  const target = event.target.closest("[data-task],[data-close],[data-path],[data-at]");
  if (!target) return;
  const data = target.dataset;
  if (data.task !== undefined) { select(+data.task); reveal(+data.task); }
  else if (data.close !== undefined) select(-1);
  else if (data.path !== undefined) showPath();
  else {
    const margin = (data.to - data.at) * .2 + 100;
    show(+data.at - margin, +data.to + margin);
  }
});

// MARK: Step mode

function toggleStep() {
  if (step) {
    step = null;
    play(false);
  } else {
    step = { loop: +byId("loop").value || 0 };
    moments = momentsOf(step.loop);
    if (!moments.length) { step = null; return; }
    const middle = view.to - view.from < span * .9 ? (view.from + view.to) / 2 : 0;
    moment = Math.max(0, Math.min(moments.length - 1, after(moments, middle, 0, moments.length, (m) => m.time)));
    if (middle === 0) moment = 0;
    // So near that the jobs of a turn can be told apart.
    const turn = Math.max(0, moments[moment].turn), size = 4 * Math.max(1000, turns.end[turn] - turns.start[turn]);
    if (size < view.to - view.from) show(moments[moment].time - size * .3, moments[moment].time + size * .7);
  }
  byId("manager").hidden = !step;
  byId("step").setAttribute("aria-pressed", String(!!step));
  document.body.dataset.step = step ? "on" : "";
  if (step) showMoment(); else redraw();
  layOut();
}

function stepTo(number) {
  if (!step) return;
  moment = Math.max(0, Math.min(moments.length - 1, number));
  showMoment();
}
function stepTurn(direction) {
  let m = moment + direction;
  while (m > 0 && m < moments.length - 1 && moments[m].kind !== "begins") m += direction;
  stepTo(m);
}
function play(on = !playing) {
  clearInterval(playing);
  playing = on && step ? setInterval(() => moment + 1 < moments.length ? stepTo(moment + 1) : play(false), 450) : 0;
  byId("play").textContent = playing ? "Pause" : "Play";
}

const ROOM = 250;

function item(i, order, time) {
  const what = stretches.state[i] === WAITING
    ? `<span class="what">${dot(waitGroup(i))}${escapeText(waitWords(i))}</span>` : "";
  const isNew = stretches.first[i] > previousShown && stretches.first[i] <= order;
  const age = Math.max(0, time - stretches.start[i]);
  return `<li data-i="${i}"${isNew ? ' class="new"' : ""}><span class="name">${escapeText(tasks[stretches.task[i]].title)}`
    + `</span>${what}<span class="time">${age > 0 ? duration(age) : ""}</span></li>`;
}

let previousShown = 0;

function showMoment() {
  const now = moments[moment], order = now.shown ?? now.order, world = worldAfter(order, step.loop);
  const running = now.kind === "job" ? now.job : -1;
  previousShown = moment > 0 ? moments[moment - 1].shown ?? moments[moment - 1].order : -1;
  const list = (id, items) => byId(id).innerHTML = items.slice(0, ROOM).map((i) => item(i, order, now.time)).join("")
    + (items.length > ROOM ? `<li class="more">and ${grouped(items.length - ROOM)} more</li>` : "");
  list("ready", world.ready);
  list("waiting", world.waiting);
  byId("readyCount").textContent = grouped(world.ready.length);
  byId("waitingCount").textContent = grouped(world.waiting.length);
  byId("runningCount").textContent = running >= 0 ? "1" : "0";
  byId("running").innerHTML = running >= 0
    ? `<div class="job" data-i="${running}"><b>${escapeText(tasks[stretches.task[running]].title)}</b>for `
      + `${duration(stretches.end[running] - stretches.start[running])}${then(running)}</div>`
    : `<p class="idle">${now.kind === "waits" ? "Nobody. The loop waits for news." : "Nobody yet."}</p>`;
  byId("story").innerHTML = story(now, world);
  const place = now.number ? "turn " + grouped(now.number) : "before the first whole turn";
  byId("moment").textContent = `${place} · step ${grouped(moment + 1)} of ${grouped(moments.length)}`
    + ` · ${duration(now.time)}`;
  document.body.dataset.moment = moment;
  if (now.time < view.from || now.time > view.to) show(now.time - (view.to - view.from) / 2, now.time + (view.to - view.from) / 2);
  redraw();
}

function then(i) {
  const task = tasks[stretches.task[i]];
  for (let p = task.from; p < task.to; p++) {
    if (places[p] !== i) continue;
    const next = p + 1 < task.to ? places[p + 1] : -1;
    if (next < 0) return "";
    return stretches.state[next] === READY ? ", then it is ready again" : `, then it waits for ${escapeText(waitWords(next))}`;
  }
  return "";
}

function story(now, world) {
  const name = (i) => `<b>${escapeText(tasks[stretches.task[i]].title)}</b>`;
  if (now.kind === "job") {
    const behind = world.ready.length;
    return `${name(now.job)} has the loop${behind ? `; ${grouped(behind)} behind it ${behind === 1 ? "is" : "are"} ready` : ""}.`;
  }
  if (now.kind === "waits") {
    const idle = turns.end[now.turn] - turns.waits[now.turn];
    return world.ready.length ? "The round is over, but some are ready: the loop only looks for news."
      : `Nobody is ready: the loop hands over what was asked for and waits, for ${duration(idle)}.`;
  }
  const woken = world.ready.filter((i) => stretches.first[i] >= now.order).length;
  return woken ? `A new round: ${grouped(woken)} ${woken === 1 ? "task has" : "tasks have"} got what ${woken === 1 ? "it" : "they"} waited for.`
    : "A new round.";
}

byId("manager").addEventListener("click", (event) => {
  const target = event.target.closest("[data-i]");
  if (target) select(stretches.task[+target.dataset.i], +target.dataset.i);
});

// MARK: Input

const actions = {
  fit, step: toggleStep, help: () => byId("keys").showModal(),
  previous: () => stepTo(moment - 1), next: () => stepTo(moment + 1), play: () => play(),
  previousTurn: () => stepTurn(-1), nextTurn: () => stepTurn(1),
};
for (const id in actions) byId(id).addEventListener("click", actions[id]);
byId("order").addEventListener("change", () => { layOut(); redraw(); });
byId("loop").addEventListener("change", () => {
  if (!step) return;
  step = null;
  toggleStep();
});
function search(text) {
  needle = text.trim().toLowerCase();
  layOut();
  redraw();
}
byId("search").addEventListener("input", (event) => search(event.target.value));
byId("search").addEventListener("keydown", (event) => {
  if (event.key === "Enter") {
    const row = rows.find((candidate) => candidate.task);
    if (row) { select(row.task.index); reveal(row.task.index); }
    canvas.focus();
  }
});

function key(event) {
  if (event.target.closest && event.target.closest("dialog")) return;
  const typing = event.target.tagName === "INPUT" || event.target.tagName === "SELECT";
  if (event.key === "Escape") {
    if (needle || typing) {
      byId("search").value = needle = "";
      canvas.focus();
      layOut();
      return redraw();
    }
    return selected ? select(-1) : step ? toggleStep() : undefined;
  }
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
  const moves = {
    ArrowLeft: () => step ? (event.shiftKey ? stepTurn(-1) : stepTo(moment - 1)) : pan(-.2),
    ArrowRight: () => step ? (event.shiftKey ? stepTurn(1) : stepTo(moment + 1)) : pan(.2),
    ArrowUp: () => scroll(-LANE_HEIGHT * 3), ArrowDown: () => scroll(LANE_HEIGHT * 3),
    PageUp: () => scroll(-laneHeight()), PageDown: () => scroll(laneHeight()),
    Home: () => show(0, view.to - view.from), End: () => show(span - (view.to - view.from), span),
    "+": () => zoom(.6), "=": () => zoom(.6), "-": () => zoom(1 / .6), f: fit, s: toggleStep, c: showPath,
    "/": () => byId("search").focus(), "?": actions.help, " ": () => step && play(),
  };
  const move = moves[event.key];
  if (!move) return;
  event.preventDefault();
  move();
}
document.addEventListener("keydown", key);

canvas.addEventListener("wheel", (event) => {
  event.preventDefault();
  if (event.ctrlKey || event.metaKey) zoom(Math.exp(event.deltaY * .004), toTime(event.offsetX));
  else if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) pan((event.deltaX || event.deltaY) / width());
  else scroll(event.deltaY);
}, { passive: false });

let drag = null;
canvas.addEventListener("pointerdown", (event) => {
  drag = { x: event.clientX, y: event.clientY, from: view.from, to: view.to, top: view.top, moved: false };
  canvas.setPointerCapture(event.pointerId);
});
canvas.addEventListener("pointermove", (event) => {
  if (!drag) {
    hovered = hit(event.offsetX, event.offsetY);
    canvas.style.cursor = hovered && (hovered.i >= 0 || hovered.task >= 0) ? "pointer" : "";
    return showTip(event, hovered);
  }
  const dx = event.clientX - drag.x, dy = event.clientY - drag.y;
  if (Math.abs(dx) + Math.abs(dy) > 4) drag.moved = true;
  if (!drag.moved) return;
  tip.hidden = true;
  canvas.classList.add("drag");
  const time = dx / width() * (drag.to - drag.from);
  view.top = Math.max(0, Math.min(drag.top - dy, contentHeight - laneHeight()));
  show(drag.from - time, drag.to - time);
});
canvas.addEventListener("pointerup", (event) => {
  canvas.classList.remove("drag");
  if (drag && !drag.moved) {
    const found = hit(event.offsetX, event.offsetY);
    select(found ? found.task : -1, found ? found.i : -1);
  }
  drag = null;
});
canvas.addEventListener("pointerleave", () => tip.hidden = true);
canvas.addEventListener("dblclick", (event) => zoom(.3, toTime(event.offsetX)));

let brush = null;
const overviewTime = (event) => event.offsetX / overview.clientWidth * span;
overview.addEventListener("pointerdown", (event) => {
  brush = overviewTime(event);
  overview.setPointerCapture(event.pointerId);
});
overview.addEventListener("pointermove", (event) => {
  if (brush === null) return;
  const time = overviewTime(event);
  if (Math.abs(time - brush) > span / overview.clientWidth * 3) show(Math.min(time, brush), Math.max(time, brush));
});
overview.addEventListener("pointerup", (event) => {
  const time = overviewTime(event), half = (view.to - view.from) / 2;
  if (Math.abs(time - brush) <= span / overview.clientWidth * 3) show(time - half, time + half);
  brush = null;
});

// MARK: Start

byId("program").textContent = trace.program;
const facts = [`process ${trace.process}`, duration(span), `${grouped(trace.events)} events`];
if (trace.dropped) facts.push(`${grouped(trace.dropped)} older ones overwritten`);
byId("facts").textContent = facts.join(" · ");
byId("loop").innerHTML = trace.loops.map((loop, index) => `<option value="${index}">loop ${loop.number}</option>`).join("");
byId("loop").hidden = trace.loops.length < 2;
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { readColours(); drawPanel(); redraw(); });
new ResizeObserver(() => { layOut(); draw(); }).observe(byId("stage"));
readColours();
layOut();
draw();

// The page can be opened at a place: #keys=s,ArrowRight,ArrowRight presses keys, #find=name selects a task, #search=text shows what has it,
// #spans=name tells the rows of its spans, #measure tells how many milliseconds a frame takes.
for (const part of decodeURIComponent(location.hash.slice(1)).split("&")) {
  const [name, value] = part.split("=");
  if (name === "find" && value) {
    const task = tasks.find((candidate) => candidate.title === value);
    if (task) { select(task.index); reveal(task.index); }
  }
  if (name === "search" && value) search(byId("search").value = value);
  if (name === "spans") {
    const task = tasks.find((candidate) => candidate.title === value);
    document.body.dataset.spans = spanRows(task.index).map((row) => row.map((one) => one.name).join(", ")).join("|");
  }
  if (name === "measure") {
    const start = performance.now();
    for (let i = 0; i < 20; i++) draw();
    document.body.dataset.frame = ((performance.now() - start) / 20).toFixed(1);
  }
  if (name === "keys" && value) {
    for (const pressed of value.split(",")) {
      const [, shift, code] = /^(Shift\+)?(.+)$/.exec(pressed);
      key({ key: code, shiftKey: !!shift, target: canvas, preventDefault() {} });
    }
  }
}
document.body.dataset.done = "yes";
