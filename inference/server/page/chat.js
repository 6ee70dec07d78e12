"use strict";
// The chat page. It speaks to the server that it came from and to nobody else; what is said is kept in this browser.

const KEPT = "bloomery.conversations", SETTINGS = "bloomery.settings", KEY = "bloomery.key";
const NUMBERS = [
  // name, label, smallest, largest, step
  ["temperature", "Temperature", 0, 100, "any"],
  ["max_tokens", "Longest answer", 1, 1048576, 1],
  ["top_p", "Top p", 0.000001, 1, "any"],
  ["top_k", "Top k", 1, 4194304, 1],
  ["min_p", "Min p", 0.000001, 1, "any"],
  ["repetition_penalty", "Repetition penalty", 0.000001, 100, "any"],
  ["seed", "Seed", 0, Number.MAX_SAFE_INTEGER, 1],
];
const THEMES = { system: "As the system", light: "Light", dark: "Dark" };
const LONGEST_TITLE = 60;
const ROOM_FOR_ANSWER = 0.25; // Share of the context that old turns make way for.

const $ = (id) => document.getElementById(id);
const stored = (key, otherwise) => {
  try { return JSON.parse(localStorage.getItem(key)) ?? otherwise; } catch { return otherwise; }
};

let conversations = stored(KEPT, []);
let settings = stored(SETTINGS, { theme: "system", system: "", numbers: {} });
let current = null; // the conversation that is shown; it is kept from its first message on
let model = null; // what the server says of the model
let answering = null; // the AbortController of the answer that is being made
let editing = null; // index of the user's message that is being edited

// --- small things ---

function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in made) made[name] = value; else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", "#i-" + name);
  svg.setAttribute("aria-hidden", "true");
  svg.append(use);
  return svg;
}

function act(name, label, onclick, pressed) {
  const button = element("button", { type: "button", className: "act", title: label, "aria-label": label, onclick }, icon(name));
  if (pressed !== undefined) button.setAttribute("aria-pressed", String(pressed));
  return button;
}

function save() {
  try {
    localStorage.setItem(KEPT, JSON.stringify(conversations));
    localStorage.setItem(SETTINGS, JSON.stringify(settings));
  } catch {
    notice("This browser keeps nothing more: its storage is full. Delete a conversation.");
  }
}

const notice = (text) => { $("notice").textContent = text; };

function grow(area) {
  area.style.height = "auto";
  area.style.height = area.scrollHeight + "px";
}

// --- the server ---

async function ask(path, body, signal) {
  const headers = { "content-type": "application/json" };
  const key = sessionStorage.getItem(KEY);
  if (key) headers.authorization = "Bearer " + key;
  const response = await fetch(path, body ? { method: "POST", headers, body: JSON.stringify(body), signal } : { headers });
  if (response.ok) return response;
  const error = (await response.json().catch(() => ({}))).error ?? {};
  throw Object.assign(new Error(error.message ?? "The server says " + response.status), {
    status: response.status, code: error.code, retry: Number(response.headers.get("retry-after")),
  });
}

async function learnModel() {
  try {
    model = (await (await ask("/v1/models")).json()).data[0];
  } catch (error) {
    if (error.status === 401 && await askForKey()) return learnModel();
    notice(error.status ? error.message : "The server does not answer.");
    return;
  }
  document.title = model.id;
  $("model").replaceChildren(model.id, element("small", {}, `${model.context} tokens of context`));
  if (!model.answers_messages) notice("This model is only pretrained: it continues text instead of answering.");
  for (const [name] of NUMBERS) {
    const value = model.defaults[name];
    if (value !== undefined) $("numbers").querySelector(`[name=${name}]`).placeholder = value ?? (name === "seed" ? "another each time" : "no limit");
  }
  show();
}

function askForKey() {
  const dialog = $("key");
  dialog.querySelector("form").reset();
  dialog.showModal();
  return new Promise((done) => {
    dialog.onclose = () => {
      const key = dialog.querySelector("input").value;
      if (dialog.returnValue === "done") sessionStorage.setItem(KEY, key);
      done(dialog.returnValue === "done");
    };
  });
}

/** The data of each server-sent event of a response. */
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    buffer += value;
    const parts = buffer.split("\n\n");
    buffer = parts.pop();
    for (const part of parts) {
      const data = part.replace(/^data: /, "");
      if (data === "[DONE]") return;
      yield JSON.parse(data);
    }
  }
}

/** The messages that the model is shown: as many of the last turns as leave room for an answer. */
function shownMessages(messages, skipped) {
  const system = settings.system ? [{ role: "system", content: settings.system }] : [];
  return [...system, ...messages.slice(2 * skipped).map(({ role, content }) => ({ role, content }))];
}

/** How many turns to leave out, judged by what the last answers took. */
function turnsToSkip(messages) {
  const last = messages.findLast((message) => message.tokens);
  if (!last || !model) return 0;
  const length = (list) => list.reduce((sum, message) => sum + message.content.length + 8, settings.system.length);
  const counted = messages.slice(2 * last.skipped, messages.indexOf(last) + 1);
  const tokensPerCharacter = last.tokens / length(counted);
  let skipped = 0;
  while (2 * skipped < messages.length - 1
    && length(messages.slice(2 * skipped)) * tokensPerCharacter > model.context * (1 - ROOM_FOR_ANSWER)) skipped++;
  return skipped;
}

async function answer() {
  const conversation = current, messages = conversation.messages;
  const message = { role: "assistant", content: "" };
  const history = messages.slice();
  messages.push(message);
  answering = new AbortController();
  message.skipped = turnsToSkip(history);
  notice("");
  show();
  follow();
  try {
    for (;;) {
      try {
        await stream(conversation, message, history);
        break;
      } catch (error) {
        if (error.status === 401 && await askForKey()) continue;
        if (error.code === "context_length_exceeded" && 2 * (message.skipped + 1) < history.length) {
          message.skipped++;
          continue;
        }
        throw error;
      }
    }
  } catch (error) {
    if (error.name === "AbortError") message.end = "stopped";
    else message.error = error.status === 429
      ? `The server is busy. Try again in ${error.retry} s.`
      : error.status ? error.message : "The connection was lost.";
  }
  answering = null;
  if (!message.content && message.end === "stopped") messages.pop();
  conversation.updated = Date.now();
  save();
  show();
  $("question").focus();
}

async function stream(conversation, message, history) {
  const numbers = Object.fromEntries(Object.entries(settings.numbers).filter(([, value]) => value !== ""));
  const body = { messages: shownMessages(history, message.skipped), ...numbers, stream: true, stream_options: { include_usage: true } };
  const response = await ask("/v1/chat/completions", body, answering.signal);
  for await (const event of events(response)) {
    if (event.error) throw new Error(event.error.message);
    if (event.usage) message.tokens = event.usage.total_tokens;
    const choice = event.choices[0];
    if (!choice) continue;
    message.content += choice.delta.content ?? "";
    if (choice.finish_reason) message.end = choice.finish_reason;
    if (conversation === current) showGrowth(message);
  }
  if (!message.end) throw new Error("The connection was lost.");
}

async function rate(message, rating, correction = null) {
  const messages = shownMessages(current.messages.slice(0, current.messages.indexOf(message) + 1), message.skipped ?? 0);
  try {
    await ask("/feedback", { messages, rating, correction });
    message.rating = rating;
    message.correction = correction;
    notice("Kept. Thank you.");
  } catch (error) {
    notice(error.status ? error.message : "The server does not answer.");
  }
  message.correcting = false;
  save();
  show();
}
