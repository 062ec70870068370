// Spans: what the program itself calls a stretch of a task's work. They stand below the task's lane, those within
// others one row lower.

const spans = trace.spans.map(([task, name, start, end, isOpen]) => ({ task, name, start, end, isOpen }));
const SPAN_HEIGHT = 17, SPAN_ROWS = 6;

// The rows of each task's spans: in a row nothing overlaps.
const spanRows = (() => {
  const rows = new Map(), ends = new Map();
  for (const one of spans) {
    if (!rows.has(one.task)) {
      rows.set(one.task, []);
      ends.set(one.task, []);
    }
    const last = ends.get(one.task);
    let row = last.findIndex((end) => end <= one.start);
    if (row < 0) row = last.length;
    last[row] = one.end;
    if (row >= SPAN_ROWS) continue;
    (rows.get(one.task)[row] = rows.get(one.task)[row] || []).push(one);
  }
  return (task) => rows.get(task) || [];
})();

const spanNames = (task) => spanRows(task).flat().map((one) => one.name);

function drawSpans(list, y, height) {
  let p = Math.max(0, after(list, view.from, 0, list.length, (one) => one.end) - 1), doneX = -1;
  for (; p < list.length; p++) {
    const one = list[p];
    if (one.start > view.to) break;
    const x = toX(one.start), end = toX(one.end);
    if (end - x < 1 && Math.floor(x) === doneX) continue;
    doneX = Math.floor(x);
    const from = Math.max(gutter, x), to = Math.min(canvas.clientWidth, Math.max(end, x + 1));
    if (to < from) continue;
    pen.fillStyle = colours.span;
    pen.globalAlpha = .22;
    pen.fillRect(from, y + 2, to - from, height - 4);
    pen.globalAlpha = 1;
    if (x >= gutter) pen.fillRect(x, y + 2, Math.min(2, to - from), height - 4);
    const words = to - from > 30 ? fitText(one.name, to - from - 10) : "";
    if (words) {
      pen.fillStyle = colours.text;
      pen.fillText(words, from + 6, y + height / 2 + 1);
    }
  }
}

function spanAt(list, time, slack) {
  const p = after(list, time + slack, 0, list.length, (one) => one.start) - 1;
  return p >= 0 && list[p].end >= time - slack ? list[p] : null;
}

const spanWords = (one) => `${escapeText(tasks[one.task].title)}${one.isOpen ? ", still" : ""}<br>`
  + `${duration(one.end - one.start)}, from ${duration(one.start)}`;
