/* The viewer of images: one stack of pictures on a canvas. Grey images come as the numbers that were measured
   (WADO-RS frames) and are shown through a window here, so that changing it costs nothing; all others, and what cannot
   be had so, come as pictures (WADO-RS rendered). What is near to the shown image is fetched first, and what is far from
   it forgotten first. Nothing but this node is asked. */
import { measured } from './measuring.js';

const AT_ONCE = 4;
const KEPT_BYTES = (navigator.deviceMemory ?? 4) <= 2 ? 64e6 : 256e6;
const RAW_BYTES_MAX = 64e6;
const LINE = '#ffd166';

const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

/* A frame as it can be drawn. */
class Picture {
  constructor(bitmap) {
    this.bitmap = bitmap;
    this.width = bitmap.width;
    this.height = bitmap.height;
    this.bytes = bitmap.width * bitmap.height * 4;
  }

  drawn() {
    return this.bitmap;
  }

  forget() {
    this.bitmap.close();
  }
}

/* Numbers of a grey frame; stored values become grey by rescale and window (DICOM PS3.3, C.7.6.3.1, C.11.2.1.2). */
class Grey {
  constructor(buffer, image) {
    const bytes = image.bits / 8;
    const type = bytes === 1 ? (image.signed ? Int8Array : Uint8Array) : image.signed ? Int16Array : Uint16Array;
    this.values = new type(buffer, 0, image.rows * image.columns);
    this.image = image;
    this.width = image.columns;
    this.height = image.rows;
    this.bytes = buffer.byteLength;
  }

  /* A window for an image that names none: from its lowest to its highest value. */
  window() {
    const { slope, intercept, window } = this.image;
    if (window[1] > 0) return window;
    let low = Infinity;
    let high = -Infinity;
    for (const value of this.values) {
      if (value < low) low = value;
      if (value > high) high = value;
    }
    const ends = [low * slope + intercept, high * slope + intercept];
    return [(ends[0] + ends[1]) / 2, Math.max(1, Math.abs(ends[1] - ends[0]))];
  }

  drawn([center, width], canvas) {
    const { slope, intercept, bits, signed, inverted } = this.image;
    const size = 1 << bits;
    const first = signed ? -size / 2 : 0;
    const table = new Uint8ClampedArray(size);
    for (let number = 0; number < size; number += 1) {
      const value = (first + number) * slope + intercept;
      const grey = width > 1 ? ((value - (center - 0.5)) / (width - 1) + 0.5) * 255 : value <= center - 0.5 ? 0 : 255;
      table[number] = inverted ? 255 - clamp(grey, 0, 255) : grey;
    }
    canvas.width = this.width;
    canvas.height = this.height;
    const context = canvas.getContext('2d');
    const data = context.createImageData(this.width, this.height);
    const pixels = new Uint32Array(data.data.buffer);
    for (let at = 0; at < this.values.length; at += 1) {
      pixels[at] = 0xff000000 | (table[this.values[at] - first] * 0x010101);
    }
    context.putImageData(data, 0, 0);
    return canvas;
  }

  forget() {}
}

class Refused extends Error {
  constructor(status) {
    super(`status ${status}`);
    this.status = status;
  }
}

/* Fetches frames, the nearest first, and keeps as many as fit. */
class Stack {
  constructor(base, images, changed) {
    this.base = base;
    this.frames = images.flatMap((image) => Array.from({ length: image.frames }, (_, at) => ({ image, frame: at + 1 })));
    this.kept = new Map();
    this.loading = new Map();
    this.failed = new Map();
    this.pinned = -1;
    this.bytes = 0;
    this.at = 0;
    this.changed = changed;
    this.over = false;
  }

  get size() {
    return this.frames.length;
  }

  go(at) {
    this.at = clamp(at, 0, this.size - 1);
    for (const [loading, abort] of this.loading) {
      if (Math.abs(loading - this.at) > 12) abort.abort(); // its turn comes again
    }
    this.#pump();
  }

  #next() {
    const each = this.bytes / Math.max(1, this.kept.size);
    const reach = each ? Math.floor(KEPT_BYTES / each / 2) : AT_ONCE;
    for (let away = 0; away <= Math.min(reach, this.size); away += 1) {
      for (const at of away ? [this.at + away, this.at - away] : [this.at]) {
        const known = this.kept.has(at) || this.loading.has(at) || this.failed.has(at);
        if (at >= 0 && at < this.size && !known) return at;
      }
    }
    return -1;
  }

  #pump() {
    while (!this.over && this.loading.size < AT_ONCE) {
      const at = this.#next();
      if (at < 0) return;
      const abort = new AbortController();
      this.loading.set(at, abort);
      this.#load(at, abort.signal);
    }
  }

  async #load(at, signal) {
    try {
      this.#keep(at, await this.#fetched(this.frames[at], signal));
    } catch (error) {
      if (error.name !== 'AbortError') {
        this.failed.set(at, error);
        if ([401, 403, 404].includes(error.status)) this.over = true;
      }
    }
    this.loading.delete(at);
    this.changed(at);
    this.#pump();
  }

  async #fetched({ image, frame }, signal) {
    const bytes = (image.rows * image.columns * image.bits) / 8;
    const path = `${this.base}/instances/${image.instance}/frames/${frame}`;
    if (image.grey && !image.coarse && (image.bits === 8 || image.bits === 16) && bytes <= RAW_BYTES_MAX) {
      try {
        const buffer = await (await asked(path, 'application/octet-stream', signal)).arrayBuffer();
        if (buffer.byteLength >= bytes) return new Grey(buffer, image);
      } catch (error) {
        if (error.status !== 406) throw error;
      }
      image.coarse = true; // its pixels cannot be had, so a picture of it is shown
    }
    return new Picture(await createImageBitmap(await (await asked(`${path}/rendered`, 'image/jpeg, image/png;q=0.5', signal)).blob()));
  }

  #keep(at, found) {
    this.kept.set(at, found);
    this.bytes += found.bytes;
    while (this.bytes > KEPT_BYTES && this.kept.size > 2) {
      const places = [...this.kept.keys()].filter((place) => place !== this.pinned);
      const farthest = places.reduce((one, other) => (Math.abs(other - this.at) > Math.abs(one - this.at) ? other : one));
      const gone = this.kept.get(farthest);
      this.bytes -= gone.bytes;
      gone.forget();
      this.kept.delete(farthest);
    }
  }

  again() {
    this.failed.clear();
    this.over = false;
    this.#pump();
  }
}

const asked = async (address, accept, signal) => {
  const reply = await fetch(address, { headers: { Accept: accept }, redirect: 'manual', signal });
  if (reply.type === 'opaqueredirect') throw new Refused(401); // whoever is not logged in any more is sent there
  if (!reply.ok) throw new Refused(reply.status);
  return reply;
};

class Viewer {
  constructor(root, { base, images, scales, unmeasured }) {
    this.root = root;
    this.scales = scales;
    this.unmeasured = unmeasured;
    this.canvas = root.querySelector('canvas');
    this.context = this.canvas.getContext('2d');
    this.scratch = new Map();
    this.stack = new Stack(base, images, (at) => this.#loaded(at));
    this.tool = 'scroll';
    this.lengths = new Map();
    this.draft = null;
    this.pen = null; // where the keyboard measures from
    this.remark = ''; // why the last line was not measured
    this.window = null; // as the person set it; null: as each image says
    this.pointers = new Map();
    this.playing = 0;
    this.part = (name) => root.querySelector(`[data-${name}]`);
    this.#place();
    root.hidden = false;
    this.#listen();
    this.#play(false);
    this.go(Math.floor((this.stack.size - 1) / 2) * (images.length > 1 ? 1 : 0));
  }

  // what is shown ---------------------------------------------------------------------------------------------------

  go(at) {
    this.stack.go(at);
    this.draft = null;
    this.remark = '';
    this.#show();
  }

  get frame() {
    return this.stack.frames[this.stack.at];
  }

  get shown() {
    return this.stack.kept.get(this.stack.at);
  }

  get windowNow() {
    const shown = this.shown;
    return this.window ?? (shown instanceof Grey ? shown.window() : null);
  }

  #place() {
    this.zoom = 1;
    this.dx = 0;
    this.dy = 0;
  }

  #loaded(at) {
    if (at === this.stack.at || at === this.stack.pinned) this.#show();
    else this.#progress();
  }

  #show() {
    if (this.waiting) return;
    this.waiting = requestAnimationFrame(() => {
      this.waiting = 0;
      this.#draw();
      this.#tell();
    });
  }

  /* Half of the canvas where two are compared; from here on in pixels of the page. */
  #view(side) {
    const { clientWidth, clientHeight } = this.canvas;
    const width = this.stack.pinned < 0 ? clientWidth : clientWidth / 2;
    return { left: side * width, width, height: clientHeight };
  }

  /* How pixels of an image lie in a view; they need not be square. */
  #lie(picture, image, side) {
    const view = this.#view(side);
    const [down, across] = image.spacing[0] > 0 ? image.spacing : [1, 1];
    const fit = Math.min(view.width / (picture.width * across), view.height / (picture.height * down)) * this.zoom;
    const x = fit * across;
    const y = fit * down;
    return {
      x,
      y,
      left: view.left + (view.width - picture.width * x) / 2 + this.dx,
      top: (view.height - picture.height * y) / 2 + this.dy,
    };
  }

  #draw() {
    const ratio = window.devicePixelRatio || 1;
    const { clientWidth, clientHeight } = this.canvas;
    const [width, height] = [Math.round(clientWidth * ratio), Math.round(clientHeight * ratio)];
    if (this.canvas.width !== width || this.canvas.height !== height) Object.assign(this.canvas, { width, height });
    this.context.setTransform(ratio, 0, 0, ratio, 0, 0);
    this.context.fillStyle = '#000';
    this.context.fillRect(0, 0, clientWidth, clientHeight);
    const compared = this.stack.pinned >= 0;
    if (compared) this.#drawOne(this.stack.pinned, 0);
    this.#drawOne(this.stack.at, compared ? 1 : 0);
    this.canvas.dataset.shown = this.shown ? String(this.stack.at + 1) : '';
  }

  #drawOne(at, side) {
    const picture = this.stack.kept.get(at);
    if (!picture) return;
    const { image } = this.stack.frames[at];
    const { context } = this;
    if (!this.scratch.has(side)) this.scratch.set(side, document.createElement('canvas'));
    const drawn = picture.drawn(this.window ?? (picture instanceof Grey ? picture.window() : null), this.scratch.get(side));
    const lie = this.#lie(picture, image, side);
    const view = this.#view(side);
    context.save();
    context.beginPath();
    context.rect(view.left, 0, view.width, view.height);
    context.clip();
    context.imageSmoothingEnabled = lie.x * (window.devicePixelRatio || 1) < 3;
    context.drawImage(drawn, lie.left, lie.top, picture.width * lie.x, picture.height * lie.y);
    for (const line of this.lengths.get(at) ?? []) this.#drawLength(line, image, lie);
    if (at === this.stack.at && this.draft) this.#drawLength(this.draft, image, lie);
    if (at === this.stack.at && this.pen && this.tool === 'length') this.#drawPen(lie);
    context.restore();
  }

  #drawPen(lie) {
    const [x, y] = [lie.left + this.pen[0] * lie.x, lie.top + this.pen[1] * lie.y];
    const { context } = this;
    context.strokeStyle = LINE;
    context.lineWidth = 1.5;
    context.beginPath();
    for (const [across, down] of [[8, 0], [0, 8]]) {
      context.moveTo(x - across, y - down);
      context.lineTo(x + across, y + down);
    }
    context.stroke();
  }

  #drawLength([x1, y1, x2, y2], image, lie) {
    const { context } = this;
    const from = [lie.left + x1 * lie.x, lie.top + y1 * lie.y];
    const to = [lie.left + x2 * lie.x, lie.top + y2 * lie.y];
    const angle = Math.atan2(to[1] - from[1], to[0] - from[0]) + Math.PI / 2;
    const tick = [Math.cos(angle) * 6, Math.sin(angle) * 6];
    context.beginPath();
    context.moveTo(...from);
    context.lineTo(...to);
    for (const [x, y] of [from, to]) {
      context.moveTo(x - tick[0], y - tick[1]);
      context.lineTo(x + tick[0], y + tick[1]);
    }
    for (const [style, width] of [['#000', 4], [LINE, 2]]) {
      context.strokeStyle = style;
      context.lineWidth = width;
      context.stroke();
    }
    context.font = '600 15px system-ui, sans-serif';
    context.lineWidth = 4;
    context.strokeStyle = '#000';
    context.fillStyle = LINE;
    const said = this.#said([x1, y1, x2, y2], image);
    const at = [Math.max(from[0], to[0]) + 8, Math.max(from[1], to[1]) + 16];
    context.strokeText(said, ...at);
    context.fillText(said, ...at);
  }

  /* The length, and where it is; or why there is none. */
  #said(line, image) {
    const { long, unit, scale, unmeasured } = measured(line, image);
    if (unmeasured) return this.unmeasured[unmeasured];
    const maximumFractionDigits = unit === 'mm' ? 1 : 0;
    const number = long.toLocaleString(document.documentElement.lang, { maximumFractionDigits });
    return `${number} ${unit}${scale in this.scales ? `, ${this.scales[scale]}` : ''}`;
  }

  #words(name, ...values) {
    return values.reduce((text, value, at) => text.replace(`%${at + 1}`, value), this.root.dataset[name]);
  }

  #tell() {
    const at = this.stack.at + 1;
    const place = this.#words('image', at, this.stack.size);
    this.part('at').textContent = place;
    const { windowNow } = this;
    const rounded = windowNow?.map((value) => Math.round(value));
    this.part('windowed').textContent = rounded ? this.#words('window', rounded[1], rounded[0]) : '';
    const zoom = this.zoom.toLocaleString(document.documentElement.lang, { maximumFractionDigits: 1 });
    this.part('zoomed').textContent = this.#words('zoom', zoom);
    const failed = this.stack.failed.has(this.stack.at) || this.stack.over;
    const trouble = this.stack.over ? this.root.dataset.over : this.root.dataset.failed;
    this.part('note').textContent = this.shown ? this.remark : failed ? trouble : this.root.dataset.loading;
    const slider = this.part('slider');
    slider.value = String(at);
    slider.setAttribute('aria-valuetext', place);
    this.#progress();
  }

  #progress() {
    this.part('progress').textContent = this.#words('loaded', this.stack.kept.size, this.stack.size);
    this.part('meter').setAttribute('width', `${(100 * this.stack.kept.size) / this.stack.size}%`);
  }

  #say(text) {
    this.part('said').textContent = text;
  }

  // what is done ----------------------------------------------------------------------------------------------------

  choose(tool) {
    if (tool === 'reset') return this.reset();
    if (tool === 'compare') return this.compare();
    this.tool = tool;
    this.pen = null;
    this.remark = '';
    for (const button of this.root.querySelectorAll('[data-tool][aria-pressed]')) {
      if (button.dataset.tool !== 'compare') button.setAttribute('aria-pressed', String(button.dataset.tool === tool));
    }
    return this.#show();
  }

  reset() {
    this.#place();
    this.window = null;
    this.lengths.clear();
    this.draft = null;
    this.pen = null;
    this.remark = '';
    this.stack.again();
    if (this.part('preset')) this.part('preset').value = '';
    this.#show();
  }

  /* The shown image stays on the left; the stack goes on beside it. */
  compare() {
    this.stack.pinned = this.stack.pinned < 0 && this.shown ? this.stack.at : -1;
    this.root.querySelector('[data-tool=compare]').setAttribute('aria-pressed', String(this.stack.pinned >= 0));
    this.#show();
  }

  setWindow(center, width) {
    this.window = [center, Math.max(1, width)];
    this.#show();
  }

  #windowBy(across, down) {
    const now = this.windowNow;
    if (!now) return;
    const step = Math.max(1, now[1] / 300);
    if (this.part('preset')) this.part('preset').value = '';
    this.setWindow(now[0] + down * step, now[1] + across * step);
  }

  zoomBy(factor) {
    this.zoom = clamp(this.zoom * factor, 0.2, 20);
    this.#show();
  }

  moveBy(dx, dy) {
    this.dx += dx;
    this.dy += dy;
    this.#show();
  }

  #play(on) {
    this.part('play').hidden = this.stack.size < 2;
    clearTimeout(this.playing);
    this.playing = 0;
    if (on) this.#step();
    this.part('play').querySelector('span').textContent = this.root.dataset[on ? 'pause' : 'play'];
    this.part('play').setAttribute('aria-pressed', String(on));
  }

  /* What has not come yet is waited for, so that no frame is skipped. */
  #step() {
    if (this.shown || this.stack.failed.has(this.stack.at)) this.go((this.stack.at + 1) % this.stack.size);
    this.playing = setTimeout(() => this.#step(), this.frame.image.frame_ms || 100);
  }

  // where a point of the page is in the image -------------------------------------------------------------------------

  #point(x, y) {
    const picture = this.shown;
    if (!picture) return null;
    const lie = this.#lie(picture, this.frame.image, this.stack.pinned < 0 ? 0 : 1);
    return [clamp((x - lie.left) / lie.x, 0, picture.width), clamp((y - lie.top) / lie.y, 0, picture.height)];
  }

  #measured(line) {
    if (Math.hypot(line[2] - line[0], line[3] - line[1]) < 1) return;
    const { image } = this.frame;
    const said = this.#said(line, image);
    const without = measured(line, image).unmeasured;
    this.remark = without ? this.#words('unmeasured', said) : '';
    if (!without) this.lengths.set(this.stack.at, [...(this.lengths.get(this.stack.at) ?? []), line]);
    this.#say(this.remark || this.#words('measured', said));
  }

  // listening -------------------------------------------------------------------------------------------------------

  #listen() {
    const { canvas, root } = this;
    for (const button of root.querySelectorAll('[data-tool]')) {
      button.addEventListener('click', () => this.choose(button.dataset.tool));
    }
    this.part('play').addEventListener('click', () => this.#play(!this.playing));
    this.part('slider').addEventListener('input', (event) => this.go(Number(event.target.value) - 1));
    this.part('preset')?.addEventListener('change', (event) => {
      if (event.target.value) this.setWindow(...event.target.value.split(',').map(Number));
      else this.reset();
    });
    canvas.addEventListener('wheel', (event) => this.#wheel(event), { passive: false });
    canvas.addEventListener('pointerdown', (event) => this.#down(event));
    canvas.addEventListener('pointermove', (event) => this.#moved(event));
    for (const name of ['pointerup', 'pointercancel']) canvas.addEventListener(name, (event) => this.#up(event));
    new ResizeObserver(() => this.#show()).observe(canvas);
    const keys = document.querySelector('[data-keys]');
    document.addEventListener('keydown', (event) => this.#key(event, keys.checked));
  }

  #wheel(event) {
    event.preventDefault();
    if (event.ctrlKey) return this.zoomBy(event.deltaY < 0 ? 1.1 : 1 / 1.1);
    this.rolled = (this.rolled ?? 0) + (event.deltaMode ? event.deltaY * 40 : event.deltaY);
    const steps = Math.trunc(this.rolled / 40);
    if (steps) {
      this.rolled -= steps * 40;
      this.go(this.stack.at + clamp(steps, -10, 10));
    }
    return undefined;
  }

  #down(event) {
    this.canvas.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, [event.offsetX, event.offsetY]);
    this.dragged = 0;
    if (this.tool === 'length' && this.pointers.size === 1) {
      const point = this.#point(event.offsetX, event.offsetY);
      this.draft = point && [...point, ...point];
    } else {
      this.draft = null;
    }
  }

  #moved(event) {
    const before = this.pointers.get(event.pointerId);
    if (!before) return;
    const now = [event.offsetX, event.offsetY];
    const [dx, dy] = [now[0] - before[0], now[1] - before[1]];
    if (this.pointers.size === 2) {
      const [other] = [...this.pointers].filter(([id]) => id !== event.pointerId).map(([, place]) => place);
      const apart = ([x, y]) => Math.max(1, Math.hypot(x - other[0], y - other[1]));
      this.zoomBy(apart(now) / apart(before));
      this.moveBy(dx / 2, dy / 2);
    } else {
      this.#drag(dx, dy, now);
    }
    this.pointers.set(event.pointerId, now);
  }

  #drag(dx, dy, now) {
    if (this.tool === 'window') this.#windowBy(dx, dy);
    if (this.tool === 'zoom') this.zoomBy(1 - dy / 200);
    if (this.tool === 'move') this.moveBy(dx, dy);
    if (this.tool === 'scroll') {
      this.dragged += dy;
      const each = clamp(this.canvas.clientHeight / this.stack.size, 3, 24);
      const steps = Math.trunc(this.dragged / each);
      if (steps) {
        this.dragged -= steps * each;
        this.go(this.stack.at + steps);
      }
    }
    if (this.tool === 'length' && this.draft) {
      const point = this.#point(...now);
      if (point) this.draft = [this.draft[0], this.draft[1], ...point];
      this.#show();
    }
  }

  #up(event) {
    this.pointers.delete(event.pointerId);
    if (this.draft) this.#measured(this.draft);
    this.draft = null;
    this.#show();
  }

  #key(event, single) {
    const field = event.target.closest('input:not([type=checkbox]):not([type=range]), select, textarea, [contenteditable]');
    if (field || event.ctrlKey || event.metaKey || event.altKey) return;
    const onButton = event.target.closest('button, a, summary, input');
    const letters = { s: 'scroll', w: 'window', z: 'zoom', m: 'move', l: 'length', r: 'reset', c: 'compare' };
    const ends = { Home: 0, End: this.stack.size - 1 };
    const pages = { PageUp: -1, PageDown: 1 };
    const arrows = { ArrowUp: [0, -1], ArrowDown: [0, 1], ArrowLeft: [-1, 0], ArrowRight: [1, 0] };
    if (single && letters[event.key.toLowerCase()]) this.choose(letters[event.key.toLowerCase()]);
    else if (onButton) return;
    else if (event.key in ends) this.go(ends[event.key]);
    else if (event.key in pages) this.go(this.stack.at + pages[event.key]);
    else if (event.key in arrows) this.#arrow(...arrows[event.key]);
    else if (event.key === ' ' && this.stack.size > 1) this.#play(!this.playing);
    else if (event.key === 'Enter' && this.tool === 'length') this.#set();
    else return;
    event.preventDefault();
  }

  #arrow(across, down) {
    if (this.tool === 'window') this.#windowBy(across * 10, down * 10);
    else if (this.tool === 'zoom') this.zoomBy(1 - (down || -across) * 0.1);
    else if (this.tool === 'move') this.moveBy(across * 20, down * 20);
    else if (this.tool === 'length') this.#writes(across, down);
    else this.go(this.stack.at + (down || across));
  }

  #writes(across, down) {
    const picture = this.shown;
    if (!picture) return;
    const step = picture.width / 64;
    const from = this.pen ?? [picture.width / 2, picture.height / 2];
    this.pen = [clamp(from[0] + across * step, 0, picture.width), clamp(from[1] + down * step, 0, picture.height)];
    if (this.draft) this.draft = [this.draft[0], this.draft[1], ...this.pen];
    this.#show();
  }

  /* The first Enter sets one end, the second the other. */
  #set() {
    const picture = this.shown;
    if (!picture) return;
    this.pen ??= [picture.width / 2, picture.height / 2];
    if (this.draft) {
      this.#measured(this.draft);
      this.draft = null;
    } else {
      this.draft = [...this.pen, ...this.pen];
    }
    this.#show();
  }
}

const root = document.querySelector('[data-viewer]');
const told = JSON.parse(document.getElementById('images').textContent);
if (told.images.length) new Viewer(root, told);
