// The tab Score: files, folders and recordings -> a table with intervals, players and timelines.

import { $, ask, chosen, csv, download, dropZone, element, isAudio, say, shown, svg, whisker } from "./ui.js";
import { startRecording } from "./record.js";

const AT_ONCE = 8; // files in a request: answers come in while the others wait
const rows = []; // {file, path, row}
let about = { served: { metrics: [], about: {}, judge: "" }, limits: {}, report: false };

export function setUpScore(facts) {
  facts.then((told) => {
    about = told;
    $("timeline-metric").replaceChildren(...told.served.metrics.map((name) => element("option", { value: name, textContent: title(name) })));
    $("timeline-metric").value = told.served.judge;
  }).catch(() => {});
  dropZone($("score-drop"), score);
  for (const id of ["score-files", "score-folder"]) $(id).addEventListener("change", () => score(chosen($(id))));
  $("record").addEventListener("click", record);
  $("timeline-metric").addEventListener("change", drawOpen);
  $("score-csv").addEventListener("click", () => download("urgentmos.csv", csv(rows.map(flat)), "text/csv"));
  $("score-report").addEventListener("click", report);
  $("score-clear").addEventListener("click", clear);
}

const title = (name) => about.served.about?.[name]?.title ?? name;
const ends = (name) => about.served.about?.[name]?.range ?? [null, null];

// One after the other: what is dropped while others are scored waits for its turn.
let turn = Promise.resolve();
const score = (found) => (turn = turn.then(() => scoreNow(found)));

async function scoreNow(found) {
  const files = found.filter(({ path }) => isAudio(path));
  const others = found.length - files.length;
  if (!files.length) {
    say("score-message", found.length ? "None of these files is audio that can be read." : "There was no file in it.", true);
    return;
  }
  const bar = $("score-progress");
  [bar.max, bar.value, bar.hidden] = [files.length, 0, false];
  say("score-message", `Scoring ${files.length} ${files.length === 1 ? "recording" : "recordings"} …`);
  let failed = 0;
  for (let i = 0; i < files.length; i += AT_ONCE) {
    const some = files.slice(i, i + AT_ONCE);
    for (const [k, row] of (await answered(some)).entries()) {
      failed += row.error ? 1 : 0;
      add(some[k], row);
    }
    bar.value = i + some.length;
  }
  bar.hidden = true;
  const left = others ? ` ${others} other ${others === 1 ? "file was" : "files were"} left out.` : "";
  say("score-message", failed ? `${failed} of ${files.length} could not be scored; the table says why.${left}` : left.trim(), failed > 0);
}

// As many rows as files, whatever happens.
async function answered(files) {
  const form = new FormData();
  for (const { path, file } of files) form.append("files", file, path);
  try {
    return (await ask("v1/score?timeline=true", { form })).clips;
  } catch (error) {
    if (error.rows) return error.rows;
    if (files.length > 1) { // one of them may be too large: the others need not suffer
      const parts = [];
      for (const one of files) parts.push(...(await answered([one])));
      return parts;
    }
    return [{ uid: files[0].path, audio_path: files[0].path, metrics: {}, warnings: [], error: error.message }];
  }
}

function add(sent, row) {
  rows.push({ ...sent, row });
  $("score-results").hidden = false;
  $("score-report").hidden = !about.report;
  const names = about.served.metrics;
  const judge = about.served.judge;
  const ordered = [judge, ...names.filter((name) => name !== judge)];
  if (!$("score-table").tHead.rows.length) {
    const heads = ordered.flatMap((name, i) => (i ? [th(title(name), "number")] : [th(title(name), "number"), th("")]));
    $("score-table").tHead.append(element("tr", {}, th("Recording"), ...heads));
  }
  const calibrated = rows.some((item) => item.row.intervals && judge in item.row.intervals);
  const told = "The line shows where the measured value lies, by the model's own errors on held-out recordings. ";
  $("score-legend").textContent = `${calibrated ? told : ""}Open a recording to listen and to see its timeline.`;
  const open = element("button", { type: "button", textContent: row.audio_path, attributes: { "aria-expanded": "false" } });
  const name = element("td", { className: "clip" }, open);
  for (const text of row.warnings) name.append(element("span", { className: "said", textContent: text }));
  if (row.error) name.append(element("span", { className: "said bad", textContent: row.error }));
  const line = element("tr", {}, name);
  ordered.forEach((metric, i) => {
    const value = row.metrics[metric] ?? null;
    const [low, high] = row.intervals?.[metric] ?? [null, null];
    const between = low == null ? "" : ` between ${shown(low)} and ${shown(high)}`;
    const main = i ? "" : " score";
    const text = element("td", { className: `number${main}`, textContent: shown(value), title: low == null ? "" : `${shown(low)} … ${shown(high)}` });
    line.append(text);
    if (i) return;
    const [least, most] = ends(metric);
    const drawn = value != null && least != null && most != null;
    const label = `${title(metric)} ${shown(value)}${between}, on a scale from ${least} to ${most}`;
    const picture = element("td");
    if (drawn) picture.append(whisker(value, low, high, least, most, label));
    if (low != null) picture.append(element("span", { className: "said", textContent: `${shown(low)} … ${shown(high)}` }));
    line.append(picture);
  });
  $("score-table").tBodies[0].append(line);
  const item = rows.at(-1);
  open.addEventListener("click", () => toggle(open, line, item, ordered.length + 2));
  if (!row.error && !rows.some((other) => other.detail)) toggle(open, line, item, ordered.length + 2);
}

const th = (text, className = "") => element("th", { textContent: text, className, scope: "col" });

function toggle(open, line, item, columns) {
  const on = open.getAttribute("aria-expanded") !== "true";
  open.setAttribute("aria-expanded", on);
  if (!on) {
    URL.revokeObjectURL(item.url);
    item.detail.remove();
    item.detail = null;
    return;
  }
  item.url = URL.createObjectURL(item.file);
  item.player = element("audio", { controls: true, preload: "metadata", src: item.url, attributes: { "aria-label": `Listen to ${item.path}` } });
  item.picture = element("div");
  const inside = element("div", { className: "inside" }, item.picture, item.player);
  item.detail = element("tr", { className: "detail" }, element("td", { colSpan: columns }, inside));
  line.after(item.detail);
  draw(item);
}

function drawOpen() {
  for (const item of rows) if (item.detail) draw(item);
}

// Bars of what the clip would score if it were all like this part; the dashed line is the score of the clip.
function draw(item) {
  const { timeline, metrics } = item.row;
  const name = $("timeline-metric").value;
  const bars = timeline?.scores[name];
  if (!bars) {
    item.picture.replaceChildren(element("p", { className: "hint", textContent: item.row.error ? "" : "This model tells no timeline." }));
    return;
  }
  let [least, most] = ends(name);
  if (least == null) least = Math.min(...bars, metrics[name]);
  if (most == null) most = Math.max(...bars, metrics[name]);
  const x = (seconds) => (1000 * seconds) / timeline.seconds;
  const y = (value) => 100 - (100 * (value - least)) / (most - least || 1);
  const path = bars.map((value, i) => `M${x(timeline.edges[i])} 100V${y(value)}H${x(timeline.edges[i + 1])}V100Z`).join("");
  const head = svg("line", { class: "head", x1: 0, x2: 0, y1: 0, y2: 100 });
  const label = `Timeline of ${title(name)}: from ${shown(Math.min(...bars))} to ${shown(Math.max(...bars))} over ${shown(timeline.seconds, 1)} seconds`;
  const picture = svg("svg", { class: "timeline", viewBox: "0 0 1000 100", preserveAspectRatio: "none", role: "img", "aria-label": label },
    svg("path", { class: "bars", d: path }), svg("line", { class: "level", x1: 0, x2: 1000, y1: y(metrics[name]), y2: y(metrics[name]) }), head);
  picture.addEventListener("click", (event) => {
    const { left, width } = picture.getBoundingClientRect();
    item.player.currentTime = (timeline.seconds * (event.clientX - left)) / width;
  });
  item.player.ontimeupdate = () => {
    for (const end of ["x1", "x2"]) head.setAttribute(end, x(item.player.currentTime));
  };
  const axis = (...texts) => element("div", { className: "axis" }, ...texts.map((text) => element("span", { textContent: text })));
  item.picture.replaceChildren(
    axis(`${title(name)}, ${shown(least, 1)} to ${shown(most, 1)}`, `score ${shown(metrics[name])}`), picture, axis("0 s", `${shown(timeline.seconds, 1)} s`));
}

function flat({ row }) {
  const cells = { uid: row.uid, audio_path: row.audio_path, duration: row.duration };
  for (const name of about.served.metrics) cells[`metrics.${name}`] = row.metrics[name];
  for (const [name, [low, high]] of Object.entries(row.intervals ?? {})) {
    cells[`intervals.${name}.low`] = low;
    cells[`intervals.${name}.high`] = high;
  }
  return { ...cells, model: row.model, error: row.error, warnings: row.warnings.join("; ") };
}

async function report() {
  const form = new FormData();
  for (const { path, file } of rows) form.append("files", file, path);
  say("score-message", "Making the report …");
  try {
    download("urgentmos.html", await ask("v1/score?format=html", { form, as: "blob" }));
    say("score-message", "");
  } catch (error) {
    say("score-message", error.message, true);
  }
}

function clear() {
  for (const item of rows) if (item.detail) URL.revokeObjectURL(item.url);
  rows.length = 0;
  $("score-table").tBodies[0].replaceChildren();
  $("score-table").tHead.replaceChildren();
  $("score-results").hidden = true;
  say("score-message", "");
}

// ---- the microphone

let recording = null;
let ticking = 0;
let takes = 0;

async function record() {
  if (recording) {
    const blob = await stopRecording();
    takes += 1;
    const file = new File([blob], `recording ${takes}.wav`, { type: "audio/wav" });
    await score([{ path: file.name, file }]);
    return;
  }
  $("record").disabled = true; // one click, one microphone
  try {
    recording = await startRecording();
  } catch (error) {
    const why = navigator.mediaDevices ? error.message : "browsers allow it on https and on this machine only";
    say("score-message", `The microphone cannot be used: ${why}.`, true);
    return;
  } finally {
    $("record").disabled = false;
  }
  $("record").setAttribute("aria-pressed", true);
  $("record-text").textContent = "Stop and score";
  const most = (about.limits.seconds ?? 600) - 1;
  ticking = setInterval(() => {
    $("record-state").textContent = `recording, ${recording.seconds().toFixed(0)} s`;
    if (recording.seconds() > most) record();
  }, 200);
}

async function stopRecording() {
  clearInterval(ticking);
  const taken = recording;
  recording = null;
  $("record").setAttribute("aria-pressed", false);
  $("record-text").textContent = "Record";
  $("record-state").textContent = "";
  return taken.stop();
}
