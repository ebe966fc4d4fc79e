// The page: asks clawkeeper's own listener, and nobody else, and writes what it says as text.
"use strict";
const $ = id => document.getElementById(id);
const SPANS = ["hour", "day", "week"];
const POLL = 5e3, SLOWEST = 6e4, REFRESH = 6e4, PATIENCE = 8e3, PORTION = 25;

let span = "hour", status, past, events = [], incidents = [];
let skew = 0, lostAt = 0, failures = 0, unread = false, timer, refreshed = 0, known = "", portion = PORTION, chart, cursor = -1;

// Elements and text, never markup: nothing that is shown can be anything but shown.
function make(node, props, children) {
  for (const name in props) node.setAttribute(name, props[name]);
  node.append(...children.filter(it => it != null && it !== ""));
  return node;
}
const el = (tag, props, ...children) => make(document.createElement(tag), props, children);
const svg = (tag, props, ...children) => make(document.createElementNS("http://www.w3.org/2000/svg", tag), props, children);
function say(id, text) {
  if ($(id).textContent !== text) $(id).textContent = text;
}

// Times are of the server's clock, shown as the reader's zone has them.
const now = () => Date.now() + skew;
const part = (ms, options) => new Date(ms).toLocaleString("en-GB", options);
const clock = (ms, second) => part(ms, { hour: "2-digit", minute: "2-digit", second });
const full = ms => part(ms, { weekday: "short", day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", second: "2-digit" });
function length(ms) {
  const s = Math.max(0, Math.round(ms / 1e3)), units = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const first = units.findIndex(([size]) => s >= size || size === 1);
  return units.slice(first, first + 2).map(([size, name], i) => `${Math.floor((i ? s % units[first][0] : s) / size)} ${name}`)
    .filter((it, i) => !i || !it.startsWith("0 ")).join(" ");
}
const number = n => Math.round(n).toLocaleString("en");
const percent = (ready_s, minutes) => `${Math.floor(ready_s / minutes / .06) / 10} %`;
const ago = (text, before = "for ") => text && el("span", { "data-at": Date.parse(text), "data-before": before });

// State.
const tone = it => it.ready ? "ok" : { running: "bad", held: "bad", backoff: "warn", paused: "still" }[it.phase] || "busy";

function drawNow() {
  const colour = tone(status), word = status.ready ? "ready" : status.phase;
  const since = status.ready ? status.gateway.ready : status.since;
  say("phase", word);
  say("why", status.why || "");
  say("fix", status.fix || "");
  $("todo").hidden = !status.fix;
  $("since").replaceChildren("since ", full(Date.parse(since)), ", ", ago(since),
    ...status.next_start ? ["; next start ", ago(status.next_start, "in ")] : [],
    ...status.gateway && status.gateway.silent_since ? ["; no answer ", ago(status.gateway.silent_since)] : []);
  if ($("now").dataset.tone !== colour) {
    $("now").dataset.tone = colour;
    const fill = getComputedStyle($("now")).getPropertyValue("--tone");
    $("icon").href = "data:image/svg+xml," + encodeURIComponent(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 8 8"><circle cx="4" cy="4" r="4" fill="${fill}"/></svg>`);
  }
  document.title = `${word} – clawkeeper`;
  const { clawkeeper } = status;
  $("about").replaceChildren(...clawkeeper ? [`clawkeeper ${clawkeeper.version}, pid ${clawkeeper.pid}, up `, ago(clawkeeper.started, "")] : []);
  $("facts").replaceChildren(...facts(status));
  tick();
}

function facts(it) {
  const { gateway, memory, volume, config, paused, locks, last_exit: exit, restarts_by_class: classes = [] } = it;
  const fact = (shown, name, value, ...more) => shown ? [el("div", {}, el("dt", {}, name), el("dd", {}, value, el("small", {}, ...more)))] : [];
  const gb = mb => mb < 10240 ? `${number(mb)} MB` : `${number(mb / 1024)} GB`;
  // It counts in its own life.
  const up = it.clawkeeper ? now() - Date.parse(it.clawkeeper.started) : 864e5;
  const restarts = count => classes.reduce((sum, it) => sum + it[count], 0);
  return [
    ...fact(true, "Gateway", gateway ? `pid ${gateway.pid}` : "none runs", it.gateway_version ? `OpenClaw ${it.gateway_version}` : "", gateway ? ", up " : "", gateway ? ago(gateway.started, "") : ""),
    ...fact(gateway && gateway.channels, "Channels", gateway && gateway.channels),
    ...fact(paused, "Pause", paused && paused.resumes ? ago(paused.resumes, "ends in ") : "until clawkeeper resume"),
    ...fact(gateway && memory, "Memory", memory && `${number(memory.tree_mb)} of ${number(memory.limit_mb)} MB`, memory && (memory.leak_mb_per_hour ? `grows ${number(memory.leak_mb_per_hour)} MB an hour` : `${number(memory.available_mb)} MB available (${memory.limit_from})`)),
    ...fact(true, "Restarts", `${restarts("day")} in ${up < 864e5 ? length(up) : "a day"}`, classes.length ? `${restarts("hour")} in the last hour; ` : "", classes.map(it => `${it.cause || it.class} ${it.day}`).join(", ")),
    ...fact(exit, "Last exit", exit && exit.class, exit && [exit.cause, exit.signal, exit.code != null && `code ${exit.code}`].filter(Boolean).join(", ") + ", ", exit && ago(exit.at, ""), " ago", exit && exit.evidence ? `: ${exit.evidence}` : ""),
    ...fact(config, "Config", config && (config.usable === false ? "cannot be used" : config.last_edit), config && config.generation ? `generation ${config.generation}` : ""),
    ...fact(volume && volume.size_mb, "Volume", volume && `${gb(volume.free_mb)} free`, volume && `of ${gb(volume.size_mb)}`, volume && volume.write_ms != null ? `; a write takes ${volume.write_ms} ms` : ""),
    ...fact(locks && locks.left, "Locks", locks && `${locks.left} left where they are`),
  ];
}

function tick() {
  for (const it of document.querySelectorAll("[data-at]")) {
    const at = +it.dataset.at;
    it.textContent = it.dataset.before + length(Math.abs(now() - at));
  }
}

// History.
// A lane each: its name, the colour of what is neither a warning nor an error, the kinds of events, a shape.
const MARKS = [
  ["start", "busy", /^(begun|started|hold-over|resumed)$/, "M-4 4.5L0-4.5L4 4.5Z"],
  ["ready", "ok", /^(ready|answering-again|channels-on|memory-eased)$/, "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0"],
  ["memory", "bad", /oom|^memory-/, "M0-5.5L5.5 0L0 5.5L-5.5 0Z"],
  ["trouble", "bad", /^(exited-(refused|crash|signal)|held|killing|not-answering|unreachable|backing-off|channels-|volume-)/, "M-4.5-3L-3-4.5L0-1.5L3-4.5L4.5-3L1.5 0L4.5 3L3 4.5L0 1.5L-3 4.5L-4.5 3L-1.5 0Z"],
  ["config", "busy", /^config-|rolled-back|unconfigured/, "M-4-4H4V4H-4Z"],
  ["stop, pause", "still", /^(requested|paused|stopping|exited-|ended)/, "M-4-4H-1V4H-4ZM1-4H4V4H1Z"],
];
const mood = (level, calm) => ({ error: "bad", warn: "warn" })[level] || calm;
const kindOf = event => MARKS.findIndex(([, , kinds]) => kinds.test(event.kind));
const within = slot => events.filter(it => it.at >= slot.at && it.at < slot.at + past.width_s * 1e3);

function slots() {
  const list = [], width = past.width_s * 1e3;
  for (let at = past.from * 1e3; at < past.to * 1e3; at += width) list.push({ at, minutes: 0 });
  for (const point of past.points) {
    const slot = list[(point.at - past.from) / past.width_s];
    if (slot) Object.assign(slot, point, { at: slot.at });
  }
  return list;
}

function drawPast() {
  const list = chart = slots();
  const wide = Math.max(280, $("chart").clientWidth), left = 72, right = 8, width = wide - left - right;
  const step = width / list.length, x = i => left + i * step, begin = list[0].at, end = begin + list.length * past.width_s * 1e3;
  const of = at => left + width * (at - begin) / (end - begin);
  const root = svg("svg", { "aria-hidden": "true" });
  const label = (text, y) => root.append(svg("text", { x: 0, y }, text));
  let y = 4;

  label("service", y + 12);
  for (const [i, slot] of list.entries()) {
    const box = (top, height, kind) => root.append(svg("rect", { x: x(i), y: y + top, width: step + .3, height, ...kind }));
    const seconds = slot.minutes * 60, bad = seconds ? 1 - slot.ready_s / seconds : 0;
    box(0, 16, seconds ? { class: "tone", "data-tone": "ok" } : { class: "none" });
    if (bad > .01) box(0, Math.max(8, 16 * bad), { class: "tone", "data-tone": tone(slot.phase === "running" ? { phase: "" } : slot) });
  }
  y += 26;

  for (const [lane, [name, calm, , shape]] of MARKS.entries()) {
    const marks = events.filter(it => kindOf(it) === lane && it.at >= begin && it.at < end);
    if (!marks.length) continue;
    label(name, y + 11);
    root.append(svg("path", { class: "grid", d: `M${left} ${y + 7}H${left + width}` }));
    for (const it of marks) {
      root.append(svg("path", { class: "tone", "data-tone": mood(it.level, calm), d: shape, transform: `translate(${of(it.at).toFixed(1)} ${y + 7})` }));
    }
    y += 19;
  }
  y = curves(root, list, y + 10, 130, "All its processes", "tree_mb", "limit_mb", "limit", { x, step, left, width });
  y = curves(root, list, y + 14, 100, "Main process", "main_mb", "heap_full_mb", "heap full", { x, step, left, width });

  const unit = (past.span === "week" ? [1440, 2880] : [10, 30, 60, 180, 360]).find(it => width * it * 6e4 / (end - begin) > 46);
  const zone = new Date(begin).getTimezoneOffset() * 6e4;
  for (let at = Math.ceil((begin - zone) / (unit * 6e4)) * unit * 6e4 + zone; at < end; at += unit * 6e4) {
    root.append(svg("text", { x: of(at), y: y + 14, "text-anchor": "middle" }, past.span === "week" ? part(at, { weekday: "short", day: "numeric" }) : clock(at)));
  }
  root.append(svg("path", { class: "at", id: "at", d: "" }));
  root.setAttribute("height", y + 20);
  root.setAttribute("viewBox", `0 0 ${wide} ${y + 20}`);
  $("chart").replaceChildren(root);
  chart.at = i => `M${(x(i) + step / 2).toFixed(1)} 0V${y}`;
  chart.under = px => Math.floor((px - left) / step);

  const seen = list.filter(it => it.minutes), minutes = seen.reduce((sum, it) => sum + it.minutes, 0);
  const ready = seen.reduce((sum, it) => sum + it.ready_s, 0), peak = Math.max(0, ...list.map(it => it.tree_mb || 0));
  const gap = minutes < list.length * past.width_s / 60 - past.width_s / 30 ? ` as far as it is known (${length(minutes * 6e4)})` : "";
  say("sum", minutes
    ? `The gateway served ${percent(ready, minutes)} of the last ${past.span}${gap}` + (peak ? ` and took at most ${number(peak)} MB.` : ".")
    : "Nothing is known yet: the first minute is not over.");
  point(cursor);
  if ($("table").open) drawTable();
}

// One curve with what it must stay below, and the room between them.
function curves(root, list, y, height, title, name, limit, limitName, { x, step, left, width }) {
  const values = list.map(it => it[name] || 0), limits = list.map(it => it[limit] || 0);
  const highest = Math.max(...values), bound = Math.max(...limits), near = bound && bound <= highest * 3;
  if (!highest) return y;
  const top = Math.max(highest, near ? bound : 0) * 1.12, power = 10 ** Math.floor(Math.log10(top / 2));
  const unit = power * [5, 2, 1].find(it => it * power * 2 <= top), base = y + 22 + height, at = mb => (base - height * mb / top).toFixed(1);
  root.append(svg("text", { x: left, y: y + 12, class: "title" }, title + (bound && !near ? `; ${limitName} ${number(bound)} MB` : "")));
  for (let mb = 0; mb < top; mb += unit) {
    root.append(svg("path", { class: "grid", d: `M${left} ${at(mb)}H${left + width}` }), svg("text", { x: left - 6, y: +at(mb) + 4, "text-anchor": "end" }, `${number(mb)}${mb + unit < top ? "" : " MB"}`));
  }
  let area = "", line = "", bar = "";
  for (let i = 0; i < list.length; i++) {
    const mid = (x(i) + step / 2).toFixed(1), from = x(i).toFixed(1), to = (x(i) + step).toFixed(1);
    if (values[i]) {
      const first = !values[i - 1], last = !values[i + 1];
      line += first ? `M${from} ${at(values[i])}L${mid} ${at(values[i])}` : `L${mid} ${at(values[i])}`;
      area += first ? `M${from} ${base}V${at(values[i])}L${mid} ${at(values[i])}` : `L${mid} ${at(values[i])}`;
      if (last) line += `H${to}`, area += `H${to}V${base}Z`;
    }
    if (near && limits[i]) bar += (limits[i - 1] === limits[i] ? "" : `M${from} ${at(limits[i])}`) + `H${to}`;
  }
  root.append(svg("path", { class: "area", d: area }), svg("path", { class: "curve", d: line }), svg("path", { class: "limit", d: bar }));
  if (near) root.append(svg("text", { x: left + width, y: at(bound) - 5, "text-anchor": "end", class: "bound" }, `${limitName} ${number(bound)} MB`));
  return base;
}

function words(slot) {
  if (!slot.minutes) return ["clawkeeper did not run"];
  const of = (what, value, limit) => value ? [`${what} ${number(value)}${limit ? ` of ${number(limit)}` : ""} MB`] : [];
  return [
    `served ${percent(slot.ready_s, slot.minutes)}` + (slot.phase === "running" ? "" : ` (${slot.phase})`),
    ...of("memory", slot.tree_mb, slot.limit_mb), ...of("main process", slot.main_mb, slot.heap_full_mb),
  ];
}
const stretch = slot => (past.span === "week" ? part(slot.at, { weekday: "short" }) + " " : "") + `${clock(slot.at)}–${clock(slot.at + past.width_s * 1e3)}`;

function point(i) {
  const slot = chart && chart[i];
  cursor = slot ? i : -1;
  if ($("at")) $("at").setAttribute("d", slot ? chart.at(i) : "");
  if (!slot) return say("read", "Point at the chart, or use the arrow keys, to read it.");
  const texts = within(slot).map(it => taken(it.text)[0]);
  say("read", [`${stretch(slot)}: ${words(slot).join(", ")}`, ...texts.slice(0, 3), ...texts.length > 3 ? [`${texts.length - 3} more events`] : []].join(" · "));
}

function drawTable() {
  const row = (tag, cells) => el("tr", {}, ...cells.map(it => el(tag, tag === "th" ? { scope: "col" } : {}, it)));
  const rows = chart.filter(it => it.minutes || within(it).length).map(it => row("td", [
    stretch(it), it.minutes ? percent(it.ready_s, it.minutes) : "–", ...["tree_mb", "limit_mb", "main_mb", "heap_full_mb"].map(name => it[name] ? number(it[name]) : "–"),
    within(it).map(event => event.kind).join(", ") || "–",
  ]));
  $("table").lastElementChild.replaceChildren(el("table", {}, el("thead", {}, row("th", ["Time", "Served", "Memory, MB", "Limit", "Main process", "Heap full at", "Events"])), el("tbody", {}, ...rows.reverse())));
}

async function choose(next) {
  span = next;
  cursor = -1;
  for (const it of SPANS) {
    $("tab-" + it).setAttribute("aria-selected", it === span);
    $("tab-" + it).tabIndex = it === span ? 0 : -1;
  }
  $("past").setAttribute("aria-labelledby", "tab-" + span);
  await read(loadPast);
}

// Timeline and incidents.

// A log line taken apart: the message, and its fields.
function taken(text) {
  const value = '("(?:[^"\\\\]|\\\\.)*"|\\S+)', fields = [];
  const message = text.replace(new RegExp(` ([a-z0-9_]+)=${value}`, "g"), (_, name, value) => {
    try {
      fields.push([name, value[0] === '"' ? JSON.parse(value) : value]);
    } catch {
      fields.push([name, value]);
    }
    return "";
  });
  return [message, fields];
}

function item({ at, kind = "", level, text }, head) {
  const [message, fields] = taken(text), told = ["why", "fix"], rest = fields.filter(([name]) => !told.includes(name));
  const colour = mood(level);
  const lines = told.flatMap(name => fields.filter(it => it[0] === name)).map(([name, value]) => el("p", { class: name }, el("span", {}, name), " ", value));
  const small = rest.flatMap(([name, value]) => [el("span", {}, `${name.replaceAll("_", " ")} `, el("em", {}, value)), " "]);
  const details = el(lines.length ? "p" : "span", { class: "quiet" }, ...small);
  return el("li", { "data-kind": kind, ...colour ? { "data-tone": colour } : {} }, el("time", { datetime: new Date(at).toISOString() }, head ? full(at) : clock(at, "2-digit")),
    el("div", {}, el("p", {}, el("b", {}, head || ""), head ? " " : "", message, lines.length ? "" : " ", lines.length ? "" : details), ...lines, lines.length ? details : ""));
}
const day = at => part(at, { weekday: "long", day: "numeric", month: "long" });
const none = text => [el("li", { class: "empty" }, text)];

function drawEvents() {
  const list = events.slice(0, portion).flatMap((it, i) => [
    ...i && day(it.at) === day(events[i - 1].at) ? [] : [el("li", { class: "day" }, el("h3", {}, day(it.at)))],
    item(it),
  ]);
  $("events").replaceChildren(...list.length ? list : none("Nothing has happened yet."));
  $("more").hidden = events.length <= portion;
}
function drawIncidents() {
  const list = incidents.map(it => item({ at: Date.parse(it.time.replace(" ", "T")), level: "error", text: it.line }, it.class));
  $("incidents").replaceChildren(...list.length ? list : none("None is kept: no gateway has died."));
}

// Asking.
async function ask(path) {
  const answer = await fetch(path, { cache: "no-store", signal: AbortSignal.timeout(PATIENCE) });
  if (!answer.ok) throw Object.assign(new Error(`${path}: ${answer.status}`), { answered: true });
  const date = Date.parse(answer.headers.get("date"));
  // The header has whole seconds: a smaller difference says nothing.
  if (Math.abs(date - Date.now()) > 2e3) skew = date - Date.now();
  return answer.json();
}

async function loadPast() {
  const wanted = span, answer = await ask("/v1/history?span=" + wanted);
  if (wanted !== span) return;
  past = answer;
  drawPast();
}

async function refresh() {
  const key = [status.phase, status.since, status.attempt, status.config && status.config.generation].join();
  const changed = key !== known;
  if (!changed && Date.now() - refreshed < REFRESH) return;
  events = (await ask("/v1/events")).events.map(it => ({ ...it, at: Date.parse(it.time) })).reverse();
  drawEvents();
  if (changed) {
    incidents = (await ask("/v1/incidents")).incidents;
    drawIncidents();
  }
  await loadPast();
  known = key;
  refreshed = Date.now();
}

// What stands on the volume, which may give no answer while clawkeeper does; it is asked again at the next look.
async function read(load) {
  try {
    await load();
    unread = false;
  } catch (error) {
    known = "";
    // Without any answer it is clawkeeper that cannot be reached, which the next look says.
    unread = Boolean(error.answered);
  }
  $("unread").hidden = !unread;
}

async function look() {
  clearTimeout(timer);
  try {
    status = await ask("/v1/status");
    drawNow();
    failures = lostAt = 0;
  } catch {
    failures += 1;
    lostAt ||= Date.now();
    say("lost", `clawkeeper cannot be reached since ${full(lostAt)}. What stands below is what it said last. If fly proxy has ended, start it again.`);
  }
  document.body.classList.toggle("lost", lostAt > 0);
  $("lost").hidden = !lostAt;
  $("link").replaceChildren(...lostAt ? ["not connected ", el("span", { "data-at": lostAt + skew, "data-before": "for " })] : ["live"]);
  tick();
  if (!lostAt) await read(refresh);
  clearTimeout(timer);
  timer = setTimeout(look, document.hidden ? SLOWEST : Math.min(SLOWEST, POLL * 2 ** Math.min(failures, 4)));
}

say("host", location.host);
$("tabs").onclick = event => event.target.id.startsWith("tab-") && choose(event.target.id.slice(4));
$("tabs").onkeydown = event => {
  const move = { ArrowRight: 1, ArrowLeft: -1 }[event.key], at = SPANS.indexOf(span);
  const next = event.key === "Home" ? 0 : event.key === "End" ? 2 : move && (at + move + 3) % 3;
  if (next == null) return;
  event.preventDefault();
  $("tab-" + SPANS[next]).focus();
  choose(SPANS[next]);
};
$("chart").onpointermove = $("chart").onpointerdown = event => chart && point(chart.under(event.clientX - $("chart").getBoundingClientRect().left));
$("chart").onkeydown = event => {
  if (!chart) return;
  const last = chart.length - 1, from = cursor < 0 ? last + 1 : cursor;
  const next = { ArrowLeft: Math.max(0, from - 1), ArrowRight: Math.min(last, from + 1), Home: 0, End: last, Escape: -1 }[event.key];
  if (next == null) return;
  event.preventDefault();
  point(next);
};
$("more").onclick = () => { portion += PORTION; drawEvents(); };
$("table").ontoggle = () => $("table").open && chart && drawTable();
document.onvisibilitychange = () => document.hidden || look();
new ResizeObserver(() => past && drawPast()).observe($("chart"));
setInterval(() => document.hidden || tick(), 1e3);
look();
