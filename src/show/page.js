// SPDX-License-Identifier: MIT OR Apache-2.0
// The page of a report. Names come from containers, which may be hostile: they are only ever set as text.
"use strict";

const KINDS = [["l", "looked at"], ["r", "read"], ["w", "written"], ["x", "executed"], ["m", "mapped as a program or library"]];

// What the reasons of `missing` count and mean, as in docs/report.md.
const REASONS = {
  buffer_full: ["accesses", "The ring buffer had no room."],
  unreadable: ["accesses", "The path could not be read from the process."],
  io_uring: ["rings", "An io_uring ring was created on a kernel that does not let snoop trace its requests."],
  too_long: ["accesses", "The path was too long, or its directories were nested too deep."],
  preempted: ["runs", "The kernel skipped a program, because it had interrupted another run of it. Some of these runs were for traced processes."],
  unresolved: ["accesses", "The path was relative to a directory that snoop did not know."],
  other_root: ["accesses", "The process was in a mount namespace with another root directory, such as a container inside the container."],
  malformed: ["accesses", "The record could not be decoded."],
  evicted: ["files", "The files were evicted because of -max-unique-files."],
  late_attach: ["containers", "They were already running when tracing began. Of what they used before, only their programs and the files that snoop could see open or mapped are listed."],
  not_watched: ["seconds", "The time between the last write of the resumed report and the start of this run, when nothing was watched."],
  left_running: ["processes", "They were still running when the command of snoop run ended, and are no longer traced."],
  nothing_seen: ["1", "Nothing has happened yet in the traced cgroups."],
  kernel_memory: ["1", "The kernel does not let snoop read its memory."],
  paths: ["1", "On this kernel snoop cannot determine directory names and real paths."],
  loader: ["1", "On this kernel snoop cannot determine the loaders of programs."],
  counters: ["1", "The counts are older than the report, because an error ended snoop."],
};

const get = (id) => document.getElementById(id);

/// Makes an element. Strings among the children become text.
function make(tag, properties, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/// Returns a number of things, which the plural names.
const count = (n, things) => `${n.toLocaleString("en")} ${n === 1 ? things.replace(/(?<=ss)es$|s$/, "") : things}`;

function size(bytes) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (bytes >= 1024 && unit + 1 < units.length) {
    bytes /= 1024;
    unit += 1;
  }
  return `${unit ? bytes.toFixed(1) : bytes} ${units[unit]}`;
}

function duration(ms) {
  if (ms === 0) return "0 s";
  if (ms < 10) return `${ms.toFixed(2)} ms`;
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 60e3) return `${(ms / 1000).toFixed(1)} s`;
  if (ms < 3600e3) return `${Math.floor(ms / 60e3)} min ${Math.floor(ms / 1000) % 60} s`;
  if (ms < 86400e3) return `${Math.floor(ms / 3600e3)} h ${Math.floor(ms / 60e3) % 60} min`;
  return `${Math.floor(ms / 86400e3)} d ${Math.floor(ms / 3600e3) % 24} h`;
}

/// Returns a name as people may read it: on one line, and without characters that change the direction of text. The
/// report writes a byte that is not part of UTF-8 as NUL and two digits.
function shown(name) {
  return name
    .replace(/\\/g, "\\\\")
    .replace(/\0([0-9a-f]{2})/g, "\\x$1")
    .replace(/\n/g, "\\n")
    .replace(/[\u0000-\u001f\u007f-\u00a0\u00ad\u200b-\u200f\u2028-\u202f\u2060-\u206f\ufeff]/g,
      (c) => `\\u{${c.codePointAt(0).toString(16)}}`);
}

// The model: a tree of directories with the files of the report and of the image.

class Node {
  constructor(parent, name, path) {
    this.parent = parent;
    this.name = name;
    this.path = path;
    this.children = null;
    // Of the path itself: whether the report lists it, how it was used, and when first.
    this.listed = false;
    this.kinds = 0;
    this.first = Infinity;
    // Of the path and everything in it: listed files, their kinds, and the files and bytes of the image.
    this.files = 0;
    this.allKinds = 0;
    this.used = { files: 0, bytes: 0 };
    this.unused = { files: 0, bytes: 0 };
    // How many files match the filter.
    this.found = 0;
  }
}

class Model {
  /// Reads a report, or one container of it.
  constructor(report, image, container) {
    this.root = new Node(null, "/", "/");
    this.directories = new Map([["", this.root]]);
    this.last = ["", this.root];
    const containers = container < 0 ? report.containers : [report.containers[container]];
    const starts = containers.map((one) => Date.parse(one.started_at));
    const start = Math.min(...starts.filter((time) => !isNaN(time)));
    this.start = isFinite(start) ? start : NaN;
    containers.forEach((one, at) => this.addContainer(one, starts[at] - this.start || 0));
    if (container < 0) {
      for (const path of report.files) this.node(path).listed = true;
    }
    if (image) {
      this.addImage(image.used, "used");
      this.addImage(image.unused, "unused");
    }
    this.files = [];
    this.sum(this.root);
    this.firsts = Float64Array.from(this.files.filter((file) => isFinite(file.first)), (file) => file.first).sort();
  }

  addContainer(container, shift) {
    container.files.forEach((path, at) => {
      const node = this.node(path);
      node.listed = true;
      for (const letter of container.kinds?.[at] ?? "") {
        node.kinds |= 1 << KINDS.findIndex(([known]) => known === letter);
      }
      const first = container.first_use_ms?.[at] ?? null;
      if (first !== null) node.first = Math.min(node.first, first + shift);
    });
  }

  addImage(part, which) {
    part.files.forEach((path, at) => {
      const node = this.node(path);
      node[which].files += 1;
      node[which].bytes += part.bytes[at];
      node.inImage = which;
    });
  }

  /// Returns the node of a path, and makes it if it is not there.
  node(path) {
    if (path === "/") return this.root;
    const slash = path.lastIndexOf("/");
    const directory = path.slice(0, slash);
    if (this.last[0] !== directory) {
      this.last = [directory, this.directories.get(directory) ?? this.node(directory)];
    }
    const parent = this.last[1];
    parent.children ??= new Map();
    this.directories.set(directory, parent);
    const name = path.slice(slash + 1);
    let node = parent.children.get(name);
    if (!node) {
      node = new Node(parent, name, path);
      parent.children.set(name, node);
    }
    return node;
  }

  /// Sorts the content of directories, and adds it up. Collects what the report lists and the image's files.
  sum(node) {
    if (node.listed) node.files = 1;
    node.allKinds = node.kinds;
    if (node.listed || node.inImage) this.files.push(node);
    if (!node.children) return;
    node.children = [...node.children.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
    for (const child of node.children) {
      this.sum(child);
      node.files += child.files;
      node.allKinds |= child.allKinds;
      for (const which of ["used", "unused"]) {
        node[which].files += child[which].files;
        node[which].bytes += child[which].bytes;
      }
    }
  }
}

// The list of files: only the rows in sight are elements.

const ROW = 26;

class List {
  constructor() {
    this.box = get("tree");
    this.space = get("rows");
    this.rows = [];
    this.active = 0;
    this.open = new Set(["/"]);
    this.folded = new Set();
    this.filter = { text: "", kinds: 0, use: "" };
    this.order = "tree";
    this.box.addEventListener("scroll", () => this.draw(), { passive: true });
    this.box.addEventListener("keydown", (event) => this.key(event));
    this.space.addEventListener("click", (event) => this.click(event));
    new ResizeObserver(() => this.draw()).observe(this.box);
  }

  show(model) {
    const isFirst = !this.model;
    this.model = model;
    if (isFirst) this.openSome();
    this.update();
  }

  /// Opens directories, the outer ones first, for as long as the rows fit into the box.
  openSome() {
    const room = this.box.clientHeight / ROW;
    const directories = [this.model.root];
    let rows = 1;
    for (const node of directories) {
      rows += node.children?.length ?? 0;
      if (rows > room) break;
      this.open.add(node.path);
      directories.push(...(node.children ?? []).filter((child) => child.children));
    }
  }

  get isFiltered() {
    return this.filter.text !== "" || this.filter.kinds !== 0 || this.filter.use !== "";
  }

  /// Applies the filter and lists the rows.
  update() {
    const { kinds, use } = this.filter;
    const text = this.filter.text.toLowerCase();
    const matches = (file) =>
      (kinds === 0 || file.kinds & kinds) &&
      (use === "" || (use === "used") === (file.listed || file.inImage === "used")) &&
      (text === "" || file.path.toLowerCase().includes(text));
    const clear = (node) => {
      node.found = 0;
      node.children?.forEach(clear);
    };
    clear(this.model.root);
    this.matching = this.isFiltered ? this.model.files.filter(matches) : this.model.files;
    for (const file of this.matching) {
      for (let node = file; node; node = node.parent) node.found += 1;
    }
    const [found, all] = [this.matching.length, this.model.files.length];
    get("found").textContent = this.isFiltered
      ? `${found.toLocaleString("en")} of ${count(all, "files")}`
      : count(all, "files") + (this.model.root.unused.files ? ", used and unused" : "");
    this.list();
  }

  list() {
    this.rows = [];
    if (this.order === "time") {
      const files = this.matching.filter((file) => file.listed);
      this.rows = files.sort((a, b) => a.first - b.first || (a.path < b.path ? -1 : 1)).map((node) => ({ node, level: 1 }));
    } else if (this.model.root.found > 0) {
      this.addRows(this.model.root, 1, 1, 1);
    }
    this.active = Math.max(0, Math.min(this.active, this.rows.length - 1));
    this.space.style.height = `${this.rows.length * ROW}px`;
    this.draw();
  }

  addRows(node, level, place, siblings) {
    this.rows.push({ node, level, place, siblings });
    if (!this.isOpen(node)) return;
    const children = node.children.filter((child) => child.found > 0);
    children.forEach((child, at) => this.addRows(child, level + 1, at + 1, children.length));
  }

  /// With a filter everything is open, except what was folded since.
  isOpen(node) {
    return node.children !== null && (this.isFiltered ? !this.folded.has(node.path) : this.open.has(node.path));
  }

  setOpen(node, open) {
    const [paths, has] = this.isFiltered ? [this.folded, !open] : [this.open, open];
    paths[has ? "add" : "delete"](node.path);
    // A directory whose only content is a directory opens together with it.
    if (open && node.children.length === 1 && node.children[0].children) this.setOpen(node.children[0], true);
  }

  setFilter(change) {
    Object.assign(this.filter, change);
    this.folded.clear();
    this.active = 0;
    this.box.scrollTop = 0;
    this.update();
  }

  setOrder(order) {
    this.order = order;
    this.active = 0;
    this.box.scrollTop = 0;
    this.list();
  }

  draw() {
    const from = Math.max(0, Math.floor(this.box.scrollTop / ROW) - 10);
    const to = Math.min(this.rows.length, Math.ceil((this.box.scrollTop + this.box.clientHeight) / ROW) + 10);
    const rows = [];
    for (let at = from; at < to; at += 1) rows.push(this.row(at));
    this.space.replaceChildren(...rows);
    if (this.rows.length) this.box.setAttribute("aria-activedescendant", `row-${this.active}`);
  }

  row(at) {
    const { node, level, place, siblings } = this.rows[at];
    const isTree = this.order === "tree";
    const isDirectory = isTree && node.children !== null;
    const name = make("span", { className: "name", title: shown(node.path) });
    if (isTree) {
      name.style.paddingLeft = `${(level - 1) * 16}px`;
      const twist = isDirectory ? (this.isOpen(node) ? "▾" : "▸") : "";
      name.append(make("span", { className: "twist" }, twist), shown(node.name) + (isDirectory && node.parent ? "/" : ""));
    } else {
      name.append(shown(node.path));
    }
    const has = isDirectory ? node.allKinds : node.kinds;
    const kinds = make("span", { className: "kinds" }, KINDS.map(([letter], bit) => (has & (1 << bit) ? letter : "·")).join(""));
    if (!has) kinds.textContent = "";
    kinds.title = KINDS.filter((_, bit) => has & (1 << bit)).map(([, word]) => word).join(", ");
    const first = !isDirectory && isFinite(node.first) ? duration(node.first) : "";
    const [used, all] = [node.used.bytes, node.used.bytes + node.unused.bytes];
    const bytes = make("span", { className: "bytes" });
    if (all > 0 || (node.inImage && !isDirectory)) {
      bytes.append(size(isDirectory ? used : all));
      if (isDirectory) bytes.append(make("span", { className: "of" }, ` of ${size(all)}`));
    }
    const files = isDirectory ? (this.isFiltered ? node.found : node.files).toLocaleString("en") : "";
    const isIdle = node.files === 0 && node.used.files === 0;
    const classes = ["row", isDirectory && "dir", isIdle && "idle", at === this.active && "active"];
    const row = make("div", { id: `row-${at}`, className: classes.filter(Boolean).join(" ") }, name, kinds,
      make("span", { className: "first" }, first), bytes, make("span", { className: "count" }, files));
    row.style.top = `${at * ROW}px`;
    row.setAttribute("role", "treeitem");
    row.setAttribute("aria-level", level);
    row.setAttribute("aria-posinset", place ?? at + 1);
    row.setAttribute("aria-setsize", siblings ?? this.rows.length);
    if (isDirectory) row.setAttribute("aria-expanded", this.isOpen(node));
    row.setAttribute("aria-selected", at === this.active);
    return row;
  }

  click(event) {
    const row = event.target.closest(".row");
    // Who selects text does not want to open a directory.
    if (!row || !getSelection().isCollapsed) return;
    this.active = Number(row.id.slice("row-".length));
    this.toggle();
  }

  toggle() {
    const { node } = this.rows[this.active];
    if (this.order === "tree" && node.children) {
      this.setOpen(node, !this.isOpen(node));
      this.list();
    } else {
      this.draw();
    }
  }

  key(event) {
    if (event.altKey || event.ctrlKey || event.metaKey || !this.rows.length) return;
    const page = Math.max(1, Math.floor(this.box.clientHeight / ROW) - 1);
    const { node, level } = this.rows[this.active];
    const isDirectory = this.order === "tree" && node.children !== null;
    const parent = () => this.rows.findLastIndex((row, at) => at < this.active && row.level === level - 1);
    const steps = {
      ArrowDown: () => this.active + 1,
      ArrowUp: () => this.active - 1,
      PageDown: () => this.active + page,
      PageUp: () => this.active - page,
      Home: () => 0,
      End: () => this.rows.length - 1,
      ArrowRight: () => {
        if (isDirectory && !this.isOpen(node)) this.toggle();
        else if (isDirectory) return this.active + 1;
        return this.active;
      },
      ArrowLeft: () => {
        if (!isDirectory || !this.isOpen(node)) return Math.max(0, parent());
        this.toggle();
        return this.active;
      },
      Enter: () => (this.toggle(), this.active),
      " ": () => (this.toggle(), this.active),
    };
    if (!steps[event.key]) return;
    event.preventDefault();
    this.active = Math.max(0, Math.min(this.rows.length - 1, steps[event.key]()));
    const top = this.active * ROW;
    const height = this.box.clientHeight;
    if (top < this.box.scrollTop) this.box.scrollTop = top;
    else if (top + ROW > this.box.scrollTop + height) this.box.scrollTop = top + ROW - height;
    this.draw();
  }
}

// The timeline: how many files are known at each time, on a logarithmic scale, because most are used at the start.

const TICKS = [[1, "1 ms"], [10, "10 ms"], [100, "100 ms"], [1e3, "1 s"], [10e3, "10 s"], [60e3, "1 min"], [600e3, "10 min"],
  [3600e3, "1 h"], [36e6, "10 h"], [86400e3, "1 d"], [604800e3, "1 week"], [6048e5 * 10, "10 weeks"]];

function svg(tag, attributes, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

class Timeline {
  constructor() {
    this.box = get("timeline");
    new ResizeObserver(() => this.draw()).observe(this.box);
    this.box.addEventListener("pointermove", (event) => this.point(event));
    this.box.addEventListener("pointerleave", () => this.draw());
  }

  show(model, end) {
    this.firsts = model.firsts;
    const last = this.firsts.at(-1) ?? 0;
    this.end = Math.max(end - model.start || 0, last, 1);
    const at = (share) => duration(this.firsts[Math.ceil(this.firsts.length * share) - 1]);
    this.pace = this.firsts.length
      ? `Half of the files were used within ${at(0.5)}, 90 % within ${at(0.9)}, and the last new one after ${at(1)} of ${duration(this.end)}.`
      : model.files.length ? "The report does not say when files were used first." : "No file was used yet.";
    this.draw();
  }

  x(ms) {
    const scale = (time) => Math.log10(1 + time);
    return this.left + (this.width - this.left - 8) * Math.min(1, scale(ms) / scale(this.end));
  }

  /// Returns how many files were used up to a time.
  known(ms) {
    let [low, high] = [0, this.firsts.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.firsts[middle] <= ms) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  draw() {
    if (!this.firsts) return;
    get("pace").textContent = this.pace;
    this.width = this.box.clientWidth;
    const [bottom, top, all] = [this.box.clientHeight - 20, 8, this.firsts.length];
    this.left = 12 + 7 * all.toLocaleString("en").length;
    if (!all || this.width < 100) return this.box.replaceChildren();
    const y = (n) => bottom - ((bottom - top) * n) / all;
    const parts = [];
    for (const n of all > 1 ? [0, Math.round(all / 2), all] : [0, all]) {
      parts.push(svg("line", { class: "grid", x1: this.left, x2: this.width - 8, y1: y(n), y2: y(n) }),
        svg("text", { x: this.left - 6, y: y(n) + 4, "text-anchor": "end" }, n.toLocaleString("en")));
    }
    let free = 0;
    for (const [ms, text] of TICKS.filter(([ms]) => ms <= this.end)) {
      const x = this.x(ms);
      if (x < free || x > this.width - 20) continue;
      free = x + 48;
      parts.push(svg("line", { class: "grid", x1: x, x2: x, y1: bottom, y2: bottom + 4 }),
        svg("text", { x, y: bottom + 16, "text-anchor": "middle" }, text));
    }
    const { bars, line } = this.bars(y, bottom);
    const area = `M${this.left},${bottom}${line}V${bottom}Z`;
    parts.push(svg("path", { class: "area", d: area }), ...bars,
      svg("path", { class: "line", d: `M${this.left},${bottom}${line}` }));
    this.box.replaceChildren(svg("svg", { role: "img", "aria-label": this.pace }, ...parts));
  }

  /// Returns a bar for the new files of each few pixels, and the line of all known files.
  bars(y, bottom) {
    const bars = [];
    let [line, before] = ["", 0];
    const step = 6;
    for (let x = this.left; x < this.width - 8; x += step) {
      const known = this.known(this.timeAt(x + step));
      if (known > before) {
        const height = Math.max(1.5, bottom - y(known - before));
        bars.push(svg("rect", { class: "bar", x: x + 1, y: bottom - height, width: step - 2, height }));
      }
      line += `L${Math.min(x + step, this.width - 8)},${y(known).toFixed(1)}`;
      before = known;
    }
    return { bars, line };
  }

  timeAt(x) {
    const share = (x - this.left) / (this.width - this.left - 8);
    return 10 ** (Math.min(1, share) * Math.log10(1 + this.end)) - 1 + 1e-6;
  }

  point(event) {
    const box = this.box.getBoundingClientRect();
    const x = Math.max(this.left, event.clientX - box.left);
    const picture = this.box.querySelector("svg");
    if (!picture || !this.firsts.length) return;
    const ms = this.timeAt(x);
    get("pace").textContent = `After ${duration(ms)}: ${this.known(ms).toLocaleString("en")} of ${count(this.firsts.length, "files")} known.`;
    picture.querySelector(".cursor")?.remove();
    picture.append(svg("line", { class: "cursor", x1: x, x2: x, y1: 0, y2: box.height - 20 }));
  }
}

// The treemap: the area of a directory is its bytes in the image, and the coloured part of it those that are used.

class TreeMap {
  constructor() {
    this.box = get("map");
    this.path = "/";
    new ResizeObserver(() => this.draw()).observe(this.box);
  }

  show(model) {
    this.model = model;
    get("map-section").hidden = !bytesOf(model.root);
    this.draw();
  }

  draw() {
    if (!this.model || get("map-section").hidden) return;
    let node = this.model.root;
    for (const name of this.path.split("/").filter(Boolean)) {
      node = node.children?.find((child) => child.name === name) ?? node;
    }
    this.crumbs(node);
    const cells = [];
    this.place(node, { x: 0, y: 0, w: this.box.clientWidth, h: this.box.clientHeight }, 3, cells);
    this.box.replaceChildren(...cells);
  }

  crumbs(node) {
    const path = [];
    for (let at = node; at; at = at.parent) path.unshift(at);
    get("crumbs").replaceChildren(...path.map((at) => {
      const button = make("button", { type: "button", onclick: () => this.go(at) }, shown(at.name));
      if (at === node) button.setAttribute("aria-current", "true");
      return button;
    }));
  }

  go(node) {
    this.path = node.path;
    this.draw();
    get("crumbs").lastChild.focus({ preventScroll: true });
  }

  /// Places the content of a directory into a rectangle. Some levels have rectangles of their own.
  place(node, area, levels, cells) {
    const children = (node.children ?? []).filter((child) => bytesOf(child) > 0).sort((a, b) => bytesOf(b) - bytesOf(a));
    for (const { item, x, y, w, h } of squarify(children, area)) {
      if (w < 3 || h < 3) continue;
      const isGroup = levels > 1 && item.children && w > 80 && h > 56;
      cells.push(this.cell(item, { x, y, w, h }, isGroup));
      if (isGroup) this.place(item, { x: x + 2, y: y + 18, w: w - 4, h: h - 20 }, levels - 1, cells);
    }
  }

  cell(item, { x, y, w, h }, isGroup) {
    const text = `${shown(item.name)}${item.children ? "/" : ""} ${size(item.used.bytes)} of ${size(bytesOf(item))}`;
    const cell = make(item.children ? "button" : "div", { className: isGroup ? "group" : "cell", title: `${shown(item.path)}\n${text}` });
    if (isGroup) cell.append(text);
    else if (w > 44 && h > 20) cell.append(make("span", {}, shown(item.name)));
    if (item.children) {
      cell.type = "button";
      cell.setAttribute("aria-label", text);
      cell.onclick = () => this.go(item);
    }
    Object.assign(cell.style, { left: `${x}px`, top: `${y}px`, width: `${w}px`, height: `${h}px` });
    cell.style.setProperty("--share", `${(100 * item.used.bytes) / bytesOf(item)}%`);
    return cell;
  }
}

const bytesOf = (node) => node.used.bytes + node.unused.bytes;

/// Divides a rectangle among nodes by their bytes, so that the parts are nearly square (Bruls, Huizing, van Wijk 2000).
function squarify(items, { x, y, w, h }) {
  const placed = [];
  let left = items.reduce((sum, item) => sum + bytesOf(item), 0);
  let rest = items;
  while (rest.length && w > 0 && h > 0) {
    const side = Math.min(w, h);
    const scale = (w * h) / left;
    const worst = (areas, sum) => Math.max((side * side * areas[0]) / (sum * sum), (sum * sum) / (side * side * areas.at(-1)));
    const areas = [];
    let sum = 0;
    for (const item of rest) {
      const area = bytesOf(item) * scale;
      if (areas.length && worst([...areas.slice(0, 1), area], sum + area) > worst([areas[0], areas.at(-1)], sum)) break;
      areas.push(area);
      sum += area;
    }
    const thickness = sum / side;
    let along = 0;
    areas.forEach((area, at) => {
      const length = area / thickness;
      placed.push(w >= h ? { item: rest[at], x, y: y + along, w: thickness, h: length } : { item: rest[at], x: x + along, y, w: length, h: thickness });
      along += length;
    });
    if (w >= h) [x, w] = [x + thickness, w - thickness];
    else [y, h] = [y + thickness, h - thickness];
    left -= sum / scale;
    rest = rest.slice(areas.length);
  }
  return placed;
}

// The page.

const list = new List();
const timeline = new Timeline();
const map = new TreeMap();
let current = null;

function figures(report, model, image) {
  const box = get("figures");
  const [used, unused] = [model.root.used, model.root.unused];
  const entries = [["Files used", model.root.files.toLocaleString("en"), count(report.containers.length, "containers")]];
  if (image) {
    const all = used.bytes + unused.bytes;
    const files = used.files + unused.files;
    entries.push(["Bytes used", size(used.bytes), `${((100 * used.bytes) / (all || 1)).toFixed(1)} % of ${size(all)}`]);
    entries.push(["Not used", count(unused.files, "files"), `of ${files.toLocaleString("en")} in the image`]);
  }
  const lastNew = Date.parse(report.last_new_file_at);
  const updated = Date.parse(report.last_updated_at);
  const since = isNaN(lastNew) ? "unknown" : duration(Math.max(0, updated - lastNew));
  entries.push(["Since the last new file", since, `${count(report.events_since_new_file ?? 0, "accesses")} since then`]);
  entries.push(["Watched for", duration(Math.max(0, updated - Date.parse(report.started_at)) || 0), `until ${report.last_updated_at}`]);
  box.replaceChildren(...entries.map(([term, value, detail]) =>
    make("div", {}, make("dt", {}, term), make("dd", {}, value, make("small", {}, detail)))));
}

function missing(report) {
  const section = get("missing");
  section.className = report.complete ? "complete" : "incomplete";
  get("missing-title").textContent = report.complete
    ? "Complete: nothing is missing from this report"
    : "This report is not complete";
  get("reasons").replaceChildren(...Object.entries(report.missing ?? {}).map(([reason, n]) => {
    const [things, meaning] = REASONS[reason] ?? ["", ""];
    const counted = things === "1" ? "" : ` (${count(n, things).trim()})`;
    return make("li", {}, make("b", {}, shown(reason)), `${counted}: ${meaning}`);
  }));
}

function packages(image) {
  get("packages-section").hidden = !image?.packages.length;
  get("lists").className = image?.packages.length ? "two" : "";
  if (!image?.packages.length) return;
  const unused = image.packages.filter((one) => one.used.files === 0).length;
  get("packages-hint").textContent = `${unused.toLocaleString("en")} of ${image.packages.length.toLocaleString("en")} are not used at all`;
  get("packages").querySelector("tbody").replaceChildren(...image.packages.map((one) => {
    const all = one.used.bytes + one.unused.bytes;
    const share = make("div", { className: "gauge" });
    share.style.setProperty("--share", `${all ? (100 * one.used.bytes) / all : one.used.files ? 100 : 0}%`);
    const name = make("td", { title: shown(one.name) }, shown(one.name));
    const used = make("td", { title: `${size(one.used.bytes)} and ${count(one.used.files, "files")} used` }, share);
    return make("tr", {}, name, used, make("td", {}, size(all)));
  }));
}

/// Shows the report that is loaded, or the chosen container of it.
function show() {
  const { report, image } = current;
  get("main").hidden = false;
  const container = Number(get("container").value || -1);
  const model = new Model(report, image, container < report.containers.length ? container : -1);
  const about = [report.image, report.pod_name && `pod ${report.pod_name}`, report.namespace && `namespace ${report.namespace}`];
  get("about").textContent = shown(about.filter(Boolean).join(" · ")) || "Files that containers use";
  document.title = `${shown(report.image ?? report.pod_name ?? "report")} – snoop`;
  document.body.className = image ? "" : "plain";
  get("use").hidden = !image;
  figures(report, model, image);
  missing(report);
  timeline.show(model, Date.parse(report.last_updated_at));
  map.show(model);
  packages(image);
  list.show(model);
}

function load(report, image) {
  current = { report, image };
  const select = get("container");
  const chosen = select.value;
  const options = report.containers.map((one, at) => make("option", { value: at }, shown(one.name)));
  select.replaceChildren(make("option", { value: -1 }, "all"), ...options);
  select.value = select.querySelector(`option[value="${Number(chosen || -1)}"]`) ? chosen || -1 : -1;
  get("of").hidden = report.containers.length < 2;
  show();
}

// The listener serves the page without data: it asks for the report again and again.

const PAUSE = 5000;

async function watch() {
  const live = get("live");
  live.hidden = false;
  for (;;) {
    const began = performance.now();
    let pause = PAUSE;
    try {
      const answer = await fetch("report", { cache: "no-store" });
      // A large report takes time to write. Asking for it should not keep snoop busy.
      pause = Math.max(PAUSE, 20 * (performance.now() - began));
      if (!answer.ok) throw new Error(`the listener answers ${answer.status}`);
      const report = await answer.json();
      if (report.last_updated_at !== current?.report.last_updated_at) load(report, null);
      live.className = "";
      live.textContent = `live, as of ${report.last_updated_at}`;
    } catch (error) {
      live.className = "lost";
      live.textContent = `no answer: ${error.message}`;
    }
    await new Promise((done) => setTimeout(done, pause));
    while (document.hidden) {
      await new Promise((done) => document.addEventListener("visibilitychange", done, { once: true }));
    }
  }
}

function start() {
  KINDS.forEach(([letter, word], bit) => {
    const button = make("button", { type: "button", title: `only files that were ${word}` }, letter);
    button.setAttribute("aria-label", word);
    button.setAttribute("aria-pressed", "false");
    button.onclick = () => {
      const kinds = list.filter.kinds ^ (1 << bit);
      button.setAttribute("aria-pressed", (kinds & (1 << bit)) !== 0);
      list.setFilter({ kinds });
    };
    get("kinds").append(button);
  });
  get("search").addEventListener("input", (event) => list.setFilter({ text: event.target.value }));
  get("use").addEventListener("change", (event) => list.setFilter({ use: event.target.value }));
  get("order").addEventListener("change", (event) => list.setOrder(event.target.value));
  get("container").addEventListener("change", show);
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && !event.target.matches("input, select")) {
      event.preventDefault();
      get("search").focus();
    }
  });
  const data = JSON.parse(get("data").textContent);
  if (data) load(data.report, data.image);
  else watch();
}

start();
