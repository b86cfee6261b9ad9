// Runs the model in the page itself, by ONNX Runtime Web.
const settings = JSON.parse(at("settings").textContent);
const spelled = settings.tokenizer;

async function unpacked(id) {
  const bytes = Uint8Array.from(atob(at(id).textContent), (c) => c.charCodeAt(0));
  at(id).remove();
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// Tokens are bytes, written here as the characters U+0000 to U+00FF.
const latin = (bytes) => Array.from(bytes, (b) => String.fromCharCode(b)).join("");
const utf8 = (text) => latin(new TextEncoder().encode(text));
const special = new Set(spelled.special);
const ids = new Map();
spelled.tokens.forEach((token, id) => { if (!special.has(id)) ids.set(token, id); });
const pair = (a, b) => a + "\u0100" + b;
const ranks = new Map((spelled.merges ?? []).map(([a, b], rank) => [pair(a, b), rank]));

function joined(word) {
  let parts = Array.from(word);
  for (;;) {
    let best = Infinity, place = -1;
    for (let i = 0; i + 1 < parts.length; i++) {
      const rank = ranks.get(pair(parts[i], parts[i + 1]));
      if (rank !== undefined && rank < best) { best = rank; place = i; }
    }
    if (place < 0) return parts;
    const [a, b] = [parts[place], parts[place + 1]], next = [];
    for (let i = 0; i < parts.length; i++) {
      if (parts[i] === a && parts[i + 1] === b) { next.push(a + b); i++; } else next.push(parts[i]);
    }
    parts = next;
  }
}

function encode(text) {
  let parts;
  if (spelled.merges === null) {
    parts = Array.from(text, utf8);
  } else {
    if (spelled.nfc) text = text.normalize("NFC");
    const pieces = spelled.digits ? text.split(/(\p{N})/u) : [text];
    const split = new RegExp(spelled.split, "gu");
    parts = pieces.flatMap((piece) => piece.match(split) ?? []).map(utf8)
      .flatMap((word) => ids.has(word) ? [word] : joined(word));
  }
  return parts.map((part) => {
    const id = ids.get(part);
    if (id === undefined) {
      const bytes = Uint8Array.from(part, (c) => c.charCodeAt(0));
      throw new Error(`the model does not know ${JSON.stringify(new TextDecoder().decode(bytes))}`);
    }
    return id;
  });
}

// mulberry32: the same seed gives the same text.
function random(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

function logSum(logits) {
  let largest = -Infinity, sum = 0;
  for (const logit of logits) if (logit > largest) largest = logit;
  for (const logit of logits) sum += Math.exp(logit - largest);
  return largest + Math.log(sum);
}

function chosen(logits, temperature, draw) {
  if (temperature === 0) {
    let best = 0;
    for (let i = 1; i < logits.length; i++) if (logits[i] > logits[best]) best = i;
    return best;
  }
  const scaled = logits.map((logit) => logit / temperature), whole = logSum(scaled);
  let left = draw();
  for (let i = 0; i < scaled.length; i++) {
    left -= Math.exp(scaled[i] - whole);
    if (left < 0) return i;
  }
  return scaled.length - 1;
}

let ort, session, stopped = false;

class Reader {
  // While all tokens fit, each is seen; then the older half is dropped and the rest read again.
  start = 0; length = 0; past = null;
  forget() {
    this.length = 0; this.past = {};
    for (const [name, [heads, width]] of Object.entries(settings.cached))
      this.past[`past_key_values.${name}`] =
        new ort.Tensor("float32", new Float32Array(0), [1, heads, 0, width]);
  }
  async read(tokens) {
    const { context, vocabSize } = settings, hop = Math.max(1, Math.floor(context / 2));
    const beyond = tokens.length - context;
    const start = beyond <= 0 ? 0 : Math.ceil(beyond / hop) * hop;
    if (this.past === null || start !== this.start) { this.start = start; this.forget(); }
    const news = tokens.slice(this.start + this.length);
    const input = new ort.Tensor("int64", BigInt64Array.from(news, BigInt), [1, news.length]);
    const found = await session.run({ input_ids: input, ...this.past });
    for (const name of Object.keys(this.past))
      this.past[name] = found[name.replace("past_key_values", "present")];
    this.length += news.length;
    const all = found.logits.data;
    return news.map((_, i) => all.subarray(i * vocabSize, (i + 1) * vocabSize));
  }
}

async function write() {
  const temperature = Number(at("temperature").value);
  const draw = random(Number(at("seed").value)), reader = new Reader();
  const tokens = encode(at("prompt").value);
  if (!tokens.length) throw new Error("the prompt is empty");
  stopped = false;
  const decoder = new TextDecoder();
  const piece = (id) =>
    decoder.decode(Uint8Array.from(spelled.tokens[id], (c) => c.charCodeAt(0)), { stream: true });
  const began = performance.now(), prompted = tokens.length;
  const wanted = Math.max(1, Number(at("count").value) || 1);
  let rows = await reader.read(tokens);
  // What stands before the window has no logits any more.
  tokens.forEach((id, i) => {
    const row = rows[i - 1 - reader.start];
    shown(piece(id), row ? logSum(row) - row[id] : null, true);
  });
  while (!stopped && tokens.length < prompted + wanted) {
    const row = rows[rows.length - 1], id = chosen(row, temperature, draw);
    if (settings.ends.includes(id)) break;
    tokens.push(id);
    shown(piece(id), logSum(row) - row[id], false);
    tell(tokens.length - prompted, began);
    await new Promise((resolve) => setTimeout(resolve));
    if (tokens.length < prompted + wanted) rows = await reader.read(tokens);
  }
  const rest = decoder.decode();
  if (rest) shown(rest, null, false);
}

function stop() { stopped = true; }

at("prompt").value = settings.prompt;
at("temperature").value = settings.temperature;
showTemperature();
try {
  const script = new Blob([await unpacked("runtime")], { type: "text/javascript" });
  ort = await import(URL.createObjectURL(script));
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmBinary = (await unpacked("wasm")).buffer;
  session = await ort.InferenceSession.create(await unpacked("model"),
    { executionProviders: ["wasm"] });
  at("write").disabled = false;
  at("status").textContent = "ready";
} catch (error) {
  at("status").textContent = `the model cannot be opened: ${error.message}`;
}
