"use strict";
// What the trace tells, and what can be asked of it. Times are nanoseconds since the trace began; `order` is the place
// of an event among all, which tells apart what happened at one time.

const RUNNING = 0, READY = 1, WAITING = 2;
const WAIT_SLEEP = 100, WAIT_TASK = 101, WAIT_THREAD = 102;

function columns(text, layout) {
  const binary = atob(text), bytes = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i);
  const types = { f: Float64Array, u: Uint32Array, i: Int32Array };
  let width = 0;
  for (const name in layout) width += types[layout[name]].BYTES_PER_ELEMENT;
  const count = bytes.length / width, table = { count };
  let at = 0;
  for (const name in layout) {
    const type = types[layout[name]];
    table[name] = new type(bytes.buffer, at, count);
    at += count * type.BYTES_PER_ELEMENT;
  }
  return table;
}

const stretches = columns(trace.stretches, {
  start: "f", end: "f", first: "u", last: "u", task: "u", loop: "u", state: "u", wait: "u", subject: "i", result: "i",
  flags: "u", waker: "u",
});
const turns = columns(trace.turns, {
  start: "f", waits: "f", end: "f", first: "u", waitsAt: "u", loop: "u", jobs: "u", ready: "u",
});
const offloads = columns(trace.offloads, { start: "f", end: "f", task: "u", kind: "u" });
const tasks = trace.tasks.map(([number, name, parent, isChild, priority, start, end, hasEnded, title], index) => ({
  index, number, name, parent, isChild, priority, start, end, hasEnded, title, jobs: 0, time: [0, 0, 0], from: 0, to: 0,
}));
const span = trace.span;
const NOBODY = 0xffffffff;

// The stretches of each task, in order: places[task.from ..< task.to].
const places = new Uint32Array(stretches.count);
// The jobs of each loop, in order.
const jobs = trace.loops.map(() => []);
// When the number of ready jobs of a loop changes, and to what.
const queues = trace.loops.map(() => ({ time: [], length: [] }));

(function index() {
  for (let i = 0; i < stretches.count; i++) tasks[stretches.task[i]].to++;
  let next = 0;
  for (const task of tasks) {
    task.from = next;
    next += task.to;
    task.to = task.from;
  }
  for (let i = 0; i < stretches.count; i++) places[tasks[stretches.task[i]].to++] = i;
  for (const task of tasks) {
    places.subarray(task.from, task.to).sort((a, b) => stretches.first[a] - stretches.first[b]);
    for (let p = task.from; p < task.to; p++) {
      const i = places[p];
      task.time[stretches.state[i]] += stretches.end[i] - stretches.start[i];
      if (stretches.state[i] === RUNNING) task.jobs++;
    }
  }
  const changes = trace.loops.map(() => []);
  for (let i = 0; i < stretches.count; i++) {
    const loop = Math.min(stretches.loop[i], trace.loops.length - 1);
    if (stretches.state[i] === RUNNING) jobs[loop].push(i);
    if (stretches.state[i] === READY) {
      changes[loop].push([stretches.start[i], stretches.first[i], 1], [stretches.end[i], stretches.last[i], -1]);
    }
  }
  jobs.forEach((list) => list.sort((a, b) => stretches.first[a] - stretches.first[b]));
  changes.forEach((list, loop) => {
    list.sort((a, b) => a[1] - b[1] || a[0] - b[0]);
    let length = 0;
    for (const [time, , step] of list) {
      queues[loop].time.push(time);
      queues[loop].length.push(length += step);
    }
  });
})();

// The first place in a sorted list whose value is greater than `value`.
function after(list, value, from = 0, to = list.length, get = (x) => x) {
  while (from < to) {
    const middle = (from + to) >> 1;
    if (get(list[middle]) > value) to = middle; else from = middle + 1;
  }
  return from;
}

// What a task did at a time, or after so many events: the place of the stretch in the table, or -1.
function stretchAt(task, time) {
  const p = after(places, time, task.from, task.to, (i) => stretches.start[i]) - 1;
  return p >= task.from && stretches.end[places[p]] >= time ? places[p] : -1;
}
function stretchAfter(task, order) {
  const p = after(places, order, task.from, task.to, (i) => stretches.first[i]) - 1;
  if (p < task.from) return -1;
  const i = places[p];
  return stretches.last[i] > order || stretches.flags[i] & 1 ? i : -1;
}

function waitWords(i) {
  const kind = stretches.wait[i], subject = stretches.subject[i];
  if (kind < 100) return trace.kinds[kind] + (subject >= 0 ? " on " + subject : "");
  if (kind === WAIT_SLEEP) return "sleep";
  if (kind === WAIT_TASK) return tasks[subject] ? tasks[subject].title : "a task";
  return kind === WAIT_THREAD ? "another thread" : "the loop";
}
function stateWords(i) {
  if (stretches.state[i] === RUNNING) return "running";
  if (stretches.state[i] === READY) return "ready";
  return "waiting for " + waitWords(i);
}
// The group that decides a wait's colour.
function waitGroup(i) {
  const kind = stretches.wait[i];
  if (kind >= 100) return ["sleep", "task", "other", "other"][kind - 100] || "other";
  const name = trace.kinds[kind];
  if (name.startsWith("receive") || name === "poll") return "receive";
  if (name.startsWith("send") || name === "shutdown") return "send";
  if (["accept", "connect", "offload"].includes(name)) return name;
  return "file";
}

function duration(ns) {
  const digits = (v) => v >= 100 ? v.toFixed(0) : v >= 10 ? v.toFixed(1) : v.toFixed(2);
  if (ns < 1e3) return Math.round(ns) + " ns";
  if (ns < 1e6) return digits(ns / 1e3) + " µs";
  if (ns < 1e9) return digits(ns / 1e6) + " ms";
  return digits(ns / 1e9) + " s";
}
const grouped = (n) => n.toLocaleString("en-US");

// Why a task took as long as it did, from `from` to `to`: each piece of that time is its own, or, where it waited for a
// task, that task's. The pieces follow each other without a gap wherever the trace knows what happened.
function criticalPath(task, from = task.start, to = task.end, depth = 0, path = []) {
  let at = to;
  const pieces = [];
  for (let p = task.to - 1; p >= task.from && at > from; p--) {
    const i = places[p];
    if (stretches.start[i] >= at) continue;
    const start = Math.max(from, stretches.start[i]), end = Math.min(at, stretches.end[i]);
    if (end <= start) continue;
    const waited = stretches.wait[i] === WAIT_TASK ? tasks[stretches.subject[i]] : null;
    if (stretches.state[i] === WAITING && waited && waited !== task && depth < 24) {
      const inner = criticalPath(waited, Math.max(start, waited.start), end, depth + 1);
      const begin = inner.length ? inner[0].start : end;
      if (begin > start) inner.unshift({ i, task: task.index, start, end: begin });
      pieces.unshift(...inner);
    } else {
      pieces.unshift({ i, task: task.index, start, end });
    }
    at = start;
  }
  path.push(...pieces);
  return path;
}

// The moments of step mode: a turn's begin, each job's start, the wait at its end.
function momentsOf(loop) {
  const moments = [];
  let number = 0;
  for (let t = 0; t < turns.count; t++) {
    if (turns.loop[t] !== loop) continue;
    number++;
    moments.push({ order: turns.first[t], time: turns.start[t], turn: t, number, kind: "begins" });
    moments.push({ order: turns.waitsAt[t], time: turns.waits[t], turn: t, number, kind: "waits" });
  }
  for (const i of jobs[loop]) moments.push({ order: stretches.first[i], time: stretches.start[i], job: i, kind: "job" });
  moments.sort((a, b) => a.order - b.order || (a.kind === "waits" ? 1 : 0) - (b.kind === "waits" ? 1 : 0));
  let turn = null;
  for (const moment of moments) {
    if (moment.kind === "job") {
      moment.turn = turn ? turn.turn : -1;
      moment.number = turn ? turn.number : 0;
    } else turn = moment;
  }
  // What woke up together with a turn's begin is shown with it: everything until the first job.
  for (let m = 0; m + 1 < moments.length; m++) {
    const last = moments[m + 1].order - 1;
    moments[m].shown = moments[m].kind === "begins" ? Math.max(moments[m].order, last) : moments[m].order;
  }
  if (moments.length) moments[moments.length - 1].shown = moments[moments.length - 1].order;
  return moments;
}

// Who is ready, running and waiting on a loop after so many events.
function worldAfter(order, loop) {
  const world = { ready: [], running: -1, waiting: [] };
  for (const task of tasks) {
    const i = stretchAfter(task, order);
    if (i < 0 || stretches.loop[i] !== loop) continue;
    if (stretches.state[i] === READY) world.ready.push(i);
    else if (stretches.state[i] === RUNNING) world.running = i;
    else world.waiting.push(i);
  }
  world.ready.sort((a, b) => stretches.first[a] - stretches.first[b]);
  world.waiting.sort((a, b) => stretches.first[a] - stretches.first[b]);
  return world;
}
