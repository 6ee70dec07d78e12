// --- what is seen ---

function show() {
  showList();
  const log = $("log");
  const below = log.scrollHeight - log.scrollTop - log.clientHeight;
  const messages = current.messages;
  log.setAttribute("aria-busy", String(!!answering));
  log.replaceChildren(...(messages.length ? messages.map(turn) : [
    element("div", { className: "empty" }, element("strong", {}, model ? "Ask " + model.id : "Ask"), "It runs on your own machine. What you say is kept in this browser."),
  ]));
  if (below < 80) log.scrollTop = log.scrollHeight;
  const send = $("send");
  send.replaceChildren(icon(answering ? "stop" : "send"));
  send.title = answering ? "Stop (Esc)" : "Send (Enter)";
  send.setAttribute("aria-label", answering ? "Stop" : "Send");
  send.disabled = !answering && !$("question").value.trim();
}

const follow = () => { $("log").scrollTop = $("log").scrollHeight; };

function showGrowth(message) {
  const shown = $("log").lastElementChild;
  const below = $("log").scrollHeight - $("log").scrollTop - $("log").clientHeight;
  shown.className = "turn assistant coming";
  shown.querySelector(".text").textContent = message.content;
  if (below < 80) follow();
}

function turn(message, index) {
  const isLast = index === current.messages.length - 1;
  const isComing = answering && isLast && message.role === "assistant";
  const made = element("article", { className: "turn " + message.role, "aria-label": message.role === "user" ? "You" : "Answer" });
  if (message.role === "user") {
    if (editing === index) {
      made.append(textForm("Edit your message", message.content, "Send", (text) => resend(index, text), () => { editing = null; show(); }));
      return made;
    }
    made.append(element("div", { className: "text" }, message.content));
    made.append(element("div", { className: "acts" }, act("edit", "Edit", () => edit(index)), copyAct(message)));
    return made;
  }
  made.append(element("div", { className: "text" }, message.content));
  if (isComing) {
    made.classList.add(message.content ? "coming" : "waiting");
    return made;
  }
  const facts = [
    message.skipped && `The model no longer saw the first ${message.skipped === 1 ? "turn" : message.skipped + " turns"}.`,
    message.end === "length" && "Cut off: the longest answer or the context was reached.",
    message.end === "stopped" && "Stopped.",
    message.correction && "Corrected: " + message.correction,
  ].filter(Boolean);
  if (facts.length) made.append(element("p", { className: "fact" }, facts.join(" ")));
  if (message.error) made.append(element("p", { className: "fact wrong", role: "alert" }, message.error));
  const acts = element("div", { className: "acts" });
  if (message.content) acts.append(copyAct(message));
  if (isLast) acts.append(act("again", "Regenerate", regenerate));
  if (message.content && !message.error) {
    acts.append(
      act("up", "Good answer", () => rate(message, 1), message.rating === 1),
      act("down", "Bad answer", () => { message.correcting = true; show(); document.querySelector(".form textarea").focus(); }, message.rating === -1),
    );
  }
  made.append(acts);
  if (message.correcting) {
    made.append(textForm("What would have been right? (may be left empty)", message.correction ?? "", "Send", (text) => rate(message, -1, text || null), () => { message.correcting = false; show(); }, true));
  }
  return made;
}

function textForm(label, text, verb, onsend, oncancel, mayBeEmpty = false) {
  const area = element("textarea", { value: text, rows: 3 });
  const send = () => { if (mayBeEmpty || area.value.trim()) onsend(area.value.trim()); };
  area.onkeydown = (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); send(); }
    if (event.key === "Escape") { event.stopPropagation(); oncancel(); }
  };
  return element("div", { className: "form" }, element("label", {}, label, area), element("div", {},
    element("button", { type: "button", className: "quiet", onclick: oncancel }, "Cancel"),
    element("button", { type: "button", className: "primary", onclick: send }, verb)));
}

function copyAct(message) {
  const button = act("copy", "Copy", async () => {
    await navigator.clipboard.writeText(message.content);
    button.replaceChildren(icon("check"));
    setTimeout(() => button.replaceChildren(icon("copy")), 1200);
  });
  return button;
}

function showList() {
  const sorted = conversations.toSorted((a, b) => b.updated - a.updated);
  $("conversations").replaceChildren(...sorted.map((conversation) => {
    const title = conversation.messages[0]?.content.slice(0, LONGEST_TITLE) || "Empty";
    const open = element("button", { className: "open", onclick: () => choose(conversation) }, title);
    if (conversation === current) open.setAttribute("aria-current", "true");
    const remove = element("button", { className: "remove", "aria-label": "Delete " + title, title: "Delete", onclick: () => forget(conversation) }, icon("trash"));
    return element("div", { className: "kept" + (conversation === current ? " current" : "") }, open, remove);
  }));
}

// --- what is done ---

function stop() { answering?.abort(); }

function choose(conversation) {
  stop();
  editing = null;
  current = conversation ?? { messages: [], updated: Date.now() };
  openMenu(false);
  show();
  follow();
  $("question").focus();
}

function forget(conversation) {
  if (!confirm("Delete this conversation?")) return;
  conversations = conversations.filter((other) => other !== conversation);
  save();
  if (conversation === current) choose(null); else showList();
}

function say(text) {
  if (!conversations.includes(current)) conversations.push(current);
  current.messages.push({ role: "user", content: text });
  current.updated = Date.now();
  save();
  return answer();
}

function edit(index) {
  editing = index;
  show();
  const area = document.querySelector(".form textarea");
  area.focus();
  area.setSelectionRange(area.value.length, area.value.length);
}

function resend(index, text) {
  editing = null;
  current.messages.length = index;
  return say(text);
}

function regenerate() {
  current.messages.pop();
  return answer();
}

function openMenu(open) {
  document.body.classList.toggle("menu-open", open);
  $("menu").setAttribute("aria-expanded", String(open));
}

function showTheme() {
  document.documentElement.dataset.theme = settings.theme;
  $("theme").querySelector("span").textContent = "Colours: " + THEMES[settings.theme].toLowerCase();
}

function send() {
  const text = $("question").value.trim();
  if (!text || answering || !current) return;
  $("question").value = "";
  grow($("question"));
  say(text);
}

$("numbers").append(...NUMBERS.map(([name, label, min, max, step]) =>
  element("label", {}, label, element("input", { name, type: "number", min, max, step, placeholder: "default" }))));
$("composer").onsubmit = (event) => { event.preventDefault(); if (answering) stop(); else send(); };
$("question").oninput = () => { grow($("question")); $("send").disabled = !answering && !$("question").value.trim(); };
$("question").onkeydown = (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); send(); }
  const last = current.messages.findLastIndex((message) => message.role === "user");
  if (event.key === "ArrowUp" && !$("question").value && last >= 0 && !answering) { event.preventDefault(); edit(last); }
};
document.onkeydown = (event) => {
  if (event.key !== "Escape" || document.querySelector("dialog[open]")) return;
  if (answering) stop(); else openMenu(false);
};
$("new").onclick = () => choose(null);
$("menu").onclick = () => openMenu(!document.body.classList.contains("menu-open"));
$("shade").onclick = () => openMenu(false);
$("theme").onclick = () => {
  const names = Object.keys(THEMES);
  settings.theme = names[(names.indexOf(settings.theme) + 1) % names.length];
  showTheme();
  save();
};
$("open-parameters").onclick = () => {
  const form = $("parameters").querySelector("form");
  form.elements.system.value = settings.system;
  for (const [name] of NUMBERS) form.elements[name].value = settings.numbers[name] ?? "";
  $("parameters").returnValue = "";
  $("parameters").showModal();
};
// Not of the kind that Enter presses in a form.
$("parameters").querySelector(".quiet").onclick = () => $("parameters").close("reset");
$("key").querySelector(".quiet").onclick = () => $("key").close("cancel");
$("parameters").onclose = () => {
  const form = $("parameters").querySelector("form");
  if ($("parameters").returnValue === "reset") { settings.system = ""; settings.numbers = {}; }
  if ($("parameters").returnValue === "done") {
    settings.system = form.elements.system.value.trim();
    settings.numbers = Object.fromEntries(NUMBERS.filter(([name]) => form.elements[name].value !== "").map(([name]) => [name, Number(form.elements[name].value)]));
  }
  save();
};

showTheme();
choose(conversations.toSorted((a, b) => b.updated - a.updated)[0]);
learnModel();
