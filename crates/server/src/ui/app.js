// The overview: asks the JSON API every few seconds. Every value is put in as text, never as markup.
"use strict";

const PERIOD_MS = 2000;
const EXPLAIN_PERIOD_MS = 10000;
const byId = (id) => document.getElementById(id);
const TOKEN = "yard-token"; // in this tab's session only
const LOG_CHARS_MAX = 200000;
let chosen = null; // the job whose details are shown

function el(tag, options = {}, ...children) {
  const node = document.createElement(tag);
  if (options.cls) node.className = options.cls;
  if (options.title) node.title = options.title;
  if (options.click) node.addEventListener("click", options.click);
  node.append(...children.filter((c) => c !== null && c !== undefined).map((c) => (c instanceof Node ? c : String(c))));
  return node;
}

function send(path, accept) {
  const headers = { accept };
  const token = sessionStorage.getItem(TOKEN);
  if (token) headers.authorization = `Bearer ${token}`;
  return fetch(path, { headers, signal: AbortSignal.timeout(10000) });
}

async function ask(path) {
  const response = await send(path, "application/json");
  const body = await response.json();
  byId("login").hidden = response.status !== 401 && !sessionStorage.getItem(TOKEN);
  if (!response.ok) throw new Error(body.detail || body.title || `HTTP ${response.status}`);
  return body;
}

const number = (n) => (Number.isInteger(n) ? String(n) : n.toFixed(3).replace(/0+$/, ""));

function bytes(n) {
  for (const [unit, size] of [["TiB", 2 ** 40], ["GiB", 2 ** 30], ["MiB", 2 ** 20]]) {
    if (n >= size) return `${number(Math.round((n / size) * 10) / 10)} ${unit}`;
  }
  return `${n} B`;
}

function span(ms) {
  const s = Math.max(0, Math.floor(ms / 1000));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86400)} d`;
}

const tag = (text) => el("span", { cls: `tag ${/^[a-z_]+$/.test(text) ? text : ""}` }, text);

function meter(name, used, limit, show) {
  const bar = el("progress", {});
  if (limit === undefined || limit === null) {
    bar.value = 0;
    bar.max = 1;
  } else {
    bar.max = limit > 0 ? limit : 1;
    bar.value = Math.min(used, bar.max);
  }
  const of = limit === undefined || limit === null ? "no limit" : show(limit);
  return el("div", { cls: "meter" }, el("span", {}, name), bar, el("span", {}, `${show(used)} / ${of}`));
}

function meters(used, limit) {
  const rows = [meter("cpu", used.cpu, limit.cpu, number)];
  if (used.gpu > 0 || limit.gpu > 0) rows.push(meter("gpu", used.gpu, limit.gpu, number));
  if (used.memory_bytes > 0 || limit.memory_bytes > 0) rows.push(meter("memory", used.memory_bytes, limit.memory_bytes, bytes));
  rows.push(meter("jobs", used.jobs, limit.jobs, number));
  const names = new Set([...Object.keys(used.custom || {}), ...Object.keys(limit.custom || {})]);
  for (const name of names) rows.push(meter(name, (used.custom || {})[name] || 0, (limit.custom || {})[name], number));
  return rows;
}

function clusterCard(c) {
  const state = c.switch === "drained" ? "drained" : c.health;
  const labels = Object.entries(c.labels).map(([k, v]) => `${k}=${v}`).join(", ");
  const body = c.capacity ? meters(c.used, c.capacity) : [el("p", { cls: "note" }, "its capacity is not known yet")];
  const notes = [labels, c.configured ? "" : "not configured any more", c.message || ""].filter(Boolean);
  return el("div", { cls: "card" }, el("h3", {}, `${c.id} (${c.driver})`, tag(state)), ...body,
    ...notes.map((n) => el("p", { cls: "note" }, n)));
}

function teamCard(t) {
  const open = Object.entries(t.open).map(([state, n]) => `${n} ${state}`).join(", ") || "no open jobs";
  return el("div", { cls: "card" }, el("h3", {}, t.id, el("span", { cls: "note" }, `weight ${t.weight}`)),
    ...meters(t.used, t.quota), el("p", { cls: "note" }, open));
}

function jobRow(job, now) {
  const pick = () => { chosen = job.id; refresh(); };
  const state = el("td", {}, tag(job.state), job.stop_requested && job.state !== "stopped" ? " (stopping)" : null);
  return el("tr", {}, state, el("td", {}, job.team), el("td", { title: job.key }, job.name),
    el("td", {}, job.cluster || ""), el("td", {}, job.attempt || ""), el("td", {}, span(now - Date.parse(job.since))),
    el("td", { cls: "mono" }, el("button", { cls: "link", click: pick }, job.id)));
}

function facts(pairs) {
  const list = el("dl");
  for (const [name, value] of pairs) {
    if (value !== undefined && value !== null && value !== "") list.append(el("dt", {}, name), el("dd", {}, value));
  }
  return list;
}

function detail(job, history, explained) {
  const why = job.waiting ? `${job.waiting.message} [${job.waiting.code}]` : null;
  const failure = job.failure ? `${job.failure.class}: ${job.failure.message}` : null;
  const parts = [
    el("h2", {}, `${job.name} `, tag(job.state)),
    facts([["id", el("span", { cls: "mono" }, job.id)], ["key", `${job.team}/${job.key}`], ["entrypoint", job.spec.entrypoint],
      ["waits because", why], ["it would start", explained && explained.changes ? explained.changes.map((c) => c.message).join("; or ") : null],
      ["expected start", explained && explained.expected_start ? explained.expected_start.message : null],
      ["how good that is", explained && explained.expected_start && explained.expected_start.past_error
        ? explained.expected_start.past_error.message : null], ["failed because", failure],
      ["until", job.clock ? `${job.clock.at} (${job.clock.kind})` : null], ["accepted", job.created_at], ["ended", job.ended_at]]),
  ];
  for (const [cluster, reason] of Object.entries((job.waiting || {}).clusters || {})) {
    parts.push(el("p", { cls: "note" }, `${cluster}: ${reason}`));
  }
  if (job.attempts.length) {
    const last = job.attempts[job.attempts.length - 1];
    parts.push(el("p", {}, el("button", { cls: "link", click: () => showLog(job.id) }, `log of attempt ${last.number}`)));
    if (log.id === job.id) parts.push(el("pre", {}, log.text));
  }
  const rows = history.lines.map((l) => el("tr", {}, el("td", { cls: "mono" }, l.at), el("td", {}, l.event),
    el("td", {}, l.message), el("td", {}, l.actor)));
  parts.push(el("h2", {}, "History"), el("table", {}, el("tbody", {}, ...rows)));
  return parts;
}

// A link could not send the token, so the log is asked for and shown here.
let log = { id: null, text: "" };
async function showLog(id) {
  const response = await send(`/v1/jobs/${encodeURIComponent(id)}/logs`, "text/plain, application/json");
  const text = await response.text();
  log = { id, text: response.ok ? text.slice(-LOG_CHARS_MAX) : `no log: HTTP ${response.status}` };
  refresh();
}

// Finding out is work for the server: asked for one waiting job, and not each time the page looks.
let explained = { id: null, at: 0, answer: null };
async function explanation(job) {
  if (job.state !== "queued") return null;
  if (explained.id !== job.id || Date.now() - explained.at > EXPLAIN_PERIOD_MS) {
    const answer = await ask(`/v1/jobs/${encodeURIComponent(job.id)}/explain`).catch(() => null);
    explained = { id: job.id, at: Date.now(), answer };
  }
  return explained.answer;
}

function teamOptions(teams) {
  const select = byId("team");
  const known = new Set([...select.options].map((o) => o.value));
  for (const team of teams) {
    if (!known.has(team.id)) select.append(el("option", {}, team.id));
  }
}

async function show() {
  const query = new URLSearchParams({ limit: "100" });
  if (byId("team").value) query.set("team", byId("team").value);
  if (byId("state").value) query.set("state", byId("state").value);
  const [clusters, teams, jobs] = await Promise.all([ask("/v1/clusters"), ask("/v1/teams"), ask(`/v1/jobs?${query}`)]);
  const now = Date.parse(jobs.now);
  byId("clusters").replaceChildren(...clusters.clusters.map(clusterCard));
  byId("teams").replaceChildren(...teams.teams.map(teamCard));
  byId("jobs").replaceChildren(...jobs.jobs.map((job) => jobRow(job, now)));
  byId("empty").hidden = jobs.jobs.length > 0;
  teamOptions(teams.teams);
  if (chosen) {
    const id = encodeURIComponent(chosen);
    const [job, history] = await Promise.all([ask(`/v1/jobs/${id}`), ask(`/v1/jobs/${id}/history`)]);
    byId("detail").replaceChildren(...detail(job, history, await explanation(job)));
    byId("detail").hidden = false;
  }
  return jobs.now;
}

let running = false;
async function refresh() {
  if (running) return;
  running = true;
  const status = byId("status");
  try {
    const now = await show();
    status.textContent = `as of ${now.slice(0, 19).replace("T", " ")} UTC`;
    status.className = "";
  } catch (error) {
    const signedOut = !byId("login").hidden && !sessionStorage.getItem(TOKEN);
    status.textContent = signedOut ? "enter a token to see clusters, teams and jobs" : `no answer: ${error.message}; what is shown is old`;
    status.className = "bad";
  } finally {
    running = false;
  }
}

byId("login").addEventListener("submit", (event) => {
  event.preventDefault();
  const token = byId("token").value.trim();
  byId("token").value = "";
  if (token) sessionStorage.setItem(TOKEN, token); else sessionStorage.removeItem(TOKEN);
  refresh();
});
byId("team").addEventListener("change", refresh);
byId("state").addEventListener("change", refresh);
document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
setInterval(() => { if (!document.hidden) refresh(); }, PERIOD_MS);
refresh();
