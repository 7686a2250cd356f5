// What every tab needs: elements, messages, drops, tables for download, and the service itself.

export const $ = (id) => document.getElementById(id);

export function element(tag, properties = {}, ...children) {
  const { dataset, attributes = {}, ...rest } = properties;
  const made = Object.assign(document.createElement(tag), rest);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

export function svg(tag, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

export function say(id, text, bad = false) {
  $(id).textContent = text;
  $(id).classList.toggle("bad", bad);
}

export const shown = (value, digits = 2) => (value == null ? "–" : value.toFixed(digits));

// ---- the service

export class Refusal extends Error {
  constructor(body, status) {
    super(body.detail ?? `The service answered with status ${status}.`);
    this.rows = body.clips; // of a request of which nothing could be scored
  }
}

export async function ask(path, { form = null, as = "json" } = {}) {
  const headers = {};
  const token = sessionStorage.getItem("token");
  if (token) headers.Authorization = `Bearer ${token}`;
  let answer;
  try {
    answer = await fetch(path, { method: form ? "POST" : "GET", body: form, headers });
  } catch {
    throw new Refusal({ detail: "The service does not answer. Check that it is running, and try again." });
  }
  if (answer.status === 401) {
    await askForToken();
    return ask(path, { form, as });
  }
  if (!answer.ok) throw new Refusal(await answer.json().catch(() => ({})), answer.status);
  return as === "blob" ? answer.blob() : answer.json();
}

function askForToken() {
  const dialog = $("token-dialog");
  if (!dialog.open) dialog.showModal();
  return new Promise((done) => {
    dialog.addEventListener("close", () => {
      sessionStorage.setItem("token", $("token").value.trim());
      $("token").value = "";
      done();
    }, { once: true });
  });
}

// ---- files

const AUDIO = /\.(wav|flac|mp3|ogg|oga|opus|aiff?|au|caf|w64|rf64|m4a|mp4|aac|amr|webm|mka|wma|3gp)$/i;
export const isAudio = (name) => AUDIO.test(name);

// [{path, file}] of a drop: folders are walked, and a path begins with the name of what was dropped.
export async function dropped(event) {
  const items = [...event.dataTransfer.items].filter((item) => item.kind === "file");
  const entries = items.map((item) => item.webkitGetAsEntry?.() ?? item.getAsFile());
  const found = [];
  for (const entry of entries) await walk(entry, "", found);
  return found.sort((x, y) => (x.path < y.path ? -1 : 1));
}

async function walk(entry, above, found) {
  if (entry instanceof File) {
    found.push({ path: entry.name, file: entry });
  } else if (entry?.isFile) {
    const file = await new Promise((done, failed) => entry.file(done, failed));
    found.push({ path: above + entry.name, file });
  } else if (entry?.isDirectory) {
    const reader = entry.createReader();
    for (;;) { // a reader gives at most a hundred at a time
      const some = await new Promise((done, failed) => reader.readEntries(done, failed));
      if (!some.length) break;
      for (const child of some) await walk(child, `${above}${entry.name}/`, found);
    }
  }
}

export const chosen = (input) => {
  const found = [...input.files].map((file) => ({ path: file.webkitRelativePath || file.name, file }));
  input.value = ""; // the same choice again is a choice
  return found.sort((x, y) => (x.path < y.path ? -1 : 1));
};

export function dropZone(zone, take) {
  for (const kind of ["dragenter", "dragover"]) {
    zone.addEventListener(kind, (event) => { event.preventDefault(); zone.classList.add("over"); });
  }
  zone.addEventListener("dragleave", (event) => zone.contains(event.relatedTarget) || zone.classList.remove("over"));
  zone.addEventListener("drop", async (event) => {
    event.preventDefault();
    zone.classList.remove("over");
    take(await dropped(event));
  });
}

// ---- downloads

export function download(name, content, type) {
  const url = URL.createObjectURL(content instanceof Blob ? content : new Blob([content], { type }));
  const link = element("a", { href: url, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

const cell = (value) => {
  const text = value == null ? "" : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
};

export const csv = (rows) => {
  const columns = [...new Set(rows.flatMap(Object.keys))];
  return [columns, ...rows.map((row) => columns.map((name) => row[name]))].map((line) => line.map(cell).join(",")).join("\r\n") + "\r\n";
};

// A line from low to high with a dot at the value, on a scale from least to most.
export function whisker(value, low, high, least, most, label) {
  const at = (x) => 4 + 92 * Math.min(1, Math.max(0, (x - least) / (most - least || 1)));
  const picture = svg("svg", { class: "whisker", viewBox: "0 0 100 16", preserveAspectRatio: "none", role: "img", "aria-label": label });
  const line = (x1, x2, kind) => svg("line", { x1, x2, y1: 8, y2: 8, class: kind });
  picture.append(line(4, 96, "all"));
  if (low != null && high != null) picture.append(line(at(low), at(high), "between"));
  if (value != null) picture.append(line(at(value), at(value), "value"));
  return picture;
}
