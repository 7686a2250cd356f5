// The tab Compare: two files -> a verdict, and a player that switches between them while they run.

import { $, ask, chosen, dropZone, element, say, shown } from "./ui.js";

const files = { a: null, b: null };
const buffers = { a: null, b: null };
let context = null;
let running = null; // {started, nodes, gains}
let offset = 0; // seconds, while nothing runs
let heard = "a";

export function setUpCompare() {
  for (const side of ["a", "b"]) {
    $(`file-${side}`).addEventListener("change", () => take(side, chosen($(`file-${side}`))));
    dropZone($(`drop-${side}`), (found) => take(side, found));
    $(`hear-${side}`).addEventListener("click", () => hear(side));
  }
  $("compare-go").addEventListener("click", compare);
  $("play").addEventListener("click", () => (running ? pause() : play()));
  $("seek").addEventListener("input", () => moveTo(Number($("seek").value)));
  addEventListener("keydown", keys);
  addEventListener("resize", drawWaves);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawWaves);
}

function keys(event) {
  if ($("compare").hidden || $("player").hidden || event.ctrlKey || event.metaKey || event.altKey) return;
  const key = event.key.toLowerCase();
  const onControl = event.target.closest("button, select, input, label");
  if (key === "a" || key === "b") hear(key);
  else if (key === " " && !onControl) (running ? pause() : play());
  else if ((key === "arrowleft" || key === "arrowright") && !onControl) moveTo(position() + (key === "arrowleft" ? -1 : 1));
  else return;
  event.preventDefault();
}

function take(side, found) {
  if (found.length > 1 && side === "a" && !files.b) take("b", found.slice(1, 2));
  if (!found.length) return;
  pause();
  files[side] = found[0];
  buffers[side] = null;
  $(`name-${side}`).textContent = found[0].path;
  $("compare-go").disabled = !(files.a && files.b);
  $("verdict").hidden = $("player").hidden = true;
  say("compare-message", "");
}

async function compare() {
  const form = new FormData();
  for (const side of ["a", "b"]) form.append(side, files[side].file, files[side].path);
  say("compare-message", "Comparing …");
  $("compare-go").disabled = true;
  const listening = listen();
  try {
    show(await ask("v1/compare", { form }));
    say("compare-message", "");
  } catch (error) {
    say("compare-message", error.message, true);
  }
  await listening;
  $("compare-go").disabled = false;
}

function show(answer) {
  const words = { a: "A sounds better", b: "B sounds better", tie: "They sound equally good" };
  $("verdict-text").textContent = words[answer.verdict];
  const parts = [["a", "A", answer.p_a], ["tie", "tie", answer.p_tie], ["b", "B", answer.p_b]];
  $("chances").setAttribute("aria-label", parts.map(([, name, p]) => `${name} ${(100 * p).toFixed(0)} %`).join(", "));
  $("chances").replaceChildren(...parts.filter(([, , p]) => p > 0.001).map(([side, name, p]) => {
    const part = element("span", { className: side, textContent: p > 0.08 ? `${name} ${(100 * p).toFixed(0)} %` : "" });
    part.style.width = `${100 * p}%`;
    return part;
  }));
  const ahead = answer.cmos >= 0 ? "A" : "B";
  $("verdict-more").textContent = `CMOS ${shown(Math.abs(answer.cmos))} in favour of ${ahead}, by ${answer.model} ${answer.version}`;
  $("verdict").hidden = false;
}

// ---- listening

async function listen() {
  context ??= new AudioContext();
  try {
    for (const side of ["a", "b"]) buffers[side] ??= await context.decodeAudioData(await files[side].file.arrayBuffer());
  } catch {
    $("player").hidden = true;
    return; // the browser does not know the format; the service may
  }
  offset = 0;
  $("seek").max = duration();
  $("player").hidden = false;
  hear("a");
  tick();
  drawWaves();
}

const duration = () => Math.max(buffers.a.duration, buffers.b.duration);
const position = () => (running ? Math.min(duration(), context.currentTime - running.started) : offset);

async function play() {
  await context.resume();
  if (position() >= duration() - 0.01) offset = 0;
  const start = context.currentTime + 0.05;
  running = { started: start - offset, nodes: [], gains: {} };
  for (const side of ["a", "b"]) {
    const node = new AudioBufferSourceNode(context, { buffer: buffers[side] });
    const gain = new GainNode(context, { gain: side === heard ? 1 : 0 });
    node.connect(gain).connect(context.destination);
    node.start(start, Math.min(offset, buffers[side].duration));
    running.nodes.push(node);
    running.gains[side] = gain;
  }
  $("play").textContent = "Pause";
  tick();
}

function pause() {
  if (!running) return;
  offset = Math.max(0, position());
  for (const node of running.nodes) node.stop();
  running = null;
  $("play").textContent = "Play";
}

async function moveTo(seconds) {
  const again = running !== null;
  pause();
  offset = Math.min(duration(), Math.max(0, seconds));
  if (again) await play();
  tick();
}

function hear(side) {
  heard = side;
  for (const other of ["a", "b"]) {
    $(`hear-${other}`).setAttribute("aria-pressed", other === side);
    running?.gains[other].gain.setTargetAtTime(other === side ? 1 : 0, context.currentTime, 0.008); // no click
  }
}

function tick() {
  const at = Math.max(0, position());
  $("seek").value = at;
  $("clock").textContent = `${at.toFixed(1)} / ${duration().toFixed(1)} s`;
  if (running && at >= duration()) pause();
  if (running) requestAnimationFrame(tick);
}

function drawWaves() {
  if ($("player").hidden || !buffers.a || !buffers.b) return;
  const style = getComputedStyle(document.documentElement);
  for (const side of ["a", "b"]) {
    const canvas = $(`wave-${side}`);
    const width = (canvas.width = Math.round(canvas.clientWidth * devicePixelRatio));
    const height = (canvas.height = Math.round(56 * devicePixelRatio));
    const pen = canvas.getContext("2d");
    pen.fillStyle = style.getPropertyValue(`--${side}`);
    const wave = buffers[side].getChannelData(0);
    const step = (duration() * buffers[side].sampleRate) / width;
    for (let x = 0; x < width; x += 1) {
      let peak = 0;
      for (let i = Math.floor(x * step); i < Math.min(wave.length, (x + 1) * step); i += 1) peak = Math.max(peak, Math.abs(wave[i]));
      const tall = Math.max(x * step < wave.length ? 1 : 0, Math.min(1, peak) * height);
      pen.fillRect(x, (height - tall) / 2, 1, tall);
    }
  }
}
