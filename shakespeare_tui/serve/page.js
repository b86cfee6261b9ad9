// Lets the server write, over OpenAI's API.
let abort = null, prompts = {};

function headers() {
  const key = at("key").value, found = { "Content-Type": "application/json" };
  if (key) found.Authorization = `Bearer ${key}`;
  return found;
}

async function answer(path, options = {}) {
  const found = await fetch(path, { ...options, headers: headers() });
  if (found.ok) return found;
  if (found.status === 401) at("locked").hidden = false;
  let message = `the server answered ${found.status}`;
  try { message = (await found.json()).error.message; } catch { /* no JSON: the number says it */ }
  throw new Error(message);
}

async function models() {
  const { data } = await (await answer("v1/models")).json();
  prompts = Object.fromEntries(data.map((model) => [model.id, model.prompts[0] ?? ""]));
  at("model").replaceChildren(...data.map((model) => new Option(model.id)));
  if (!at("prompt").value) at("prompt").value = prompts[data[0].id];
  at("write").disabled = false;
  at("status").textContent = "ready";
}

async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (text + value).split("\n\n");
    text = parts.pop();
    for (const part of parts) {
      const record = part.slice("data: ".length);
      if (record === "[DONE]") return;
      yield JSON.parse(record);
    }
  }
}

function add({ text, logprobs }) {
  const { tokens, token_logprobs: found } = logprobs;
  // Where a character is of several tokens, their pieces are no text: it is shown as one.
  if (tokens.join("") === text) tokens.forEach((token, i) => shown(token, -found[i], false));
  else if (text) shown(text, found.length ? -found.reduce((a, b) => a + b) : null, false);
  return tokens.length;
}

async function write() {
  const prompt = at("prompt").value, began = performance.now();
  let made = 0;
  shown(prompt, null, true);
  abort = new AbortController();
  const found = await answer("v1/completions", {
    method: "POST",
    signal: abort.signal,
    body: JSON.stringify({
      model: at("model").value, prompt, stream: true, logprobs: 0,
      temperature: Number(at("temperature").value),
      max_tokens: Math.max(1, Number(at("count").value) || 1),
      seed: Math.max(0, Number(at("seed").value) || 0),
    }),
  });
  for await (const event of events(found.body)) {
    if (event.error) throw new Error(event.error.message);
    for (const choice of event.choices) made += add(choice);
    tell(made, began);
  }
}

function stop() { abort?.abort(); }

at("model").addEventListener("change", () => {
  if (!at("prompt").value) at("prompt").value = prompts[at("model").value];
});
const ask = () => models().catch((error) => { at("status").textContent = error.message; });
at("key").addEventListener("change", ask);
ask();
