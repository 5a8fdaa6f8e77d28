// Polls the agent and hands what it says to show.js. The window asked for is in the address, so that a link
// shows a colleague the same.
import { showCompleteness, showFindings, showLegend, showStorms, showWindow } from "/ui/show.js";

const POLL_MS = 2000;
const element = (id) => document.getElementById(id);
const controls = { seconds: element("seconds"), ended: element("ended") };
const pause = element("pause");

let timer = 0;
let asking = null;

function say(kind, text) {
  const status = element("status");
  if (status.textContent !== text) {
    status.className = `status ${kind}`;
    status.textContent = text;
  }
}

// A window that ended some time ago began that time and its own length ago.
function query() {
  const seconds = Number(controls.seconds.value);
  const ended = Number(controls.ended.value);
  return ended === 0 ? `seconds=${seconds}` : `seconds=${seconds}&ago=${ended + seconds}`;
}

async function ask(path, signal) {
  const response = await fetch(path, { signal, headers: { accept: "application/json" } });
  const answer = await response.json();
  if (!response.ok) {
    throw new Refused(response.status, answer.error ?? response.statusText);
  }
  return answer;
}

class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function refresh() {
  clearTimeout(timer);
  asking?.abort();
  const own = new AbortController();
  asking = own;
  try {
    const asked = query();
    const [storms, findings] = await Promise.all([
      ask(`/api/v1/storms?${asked}&limit=50&loops=1`, own.signal),
      ask(`/api/v1/findings?${asked}`, own.signal),
    ]);
    showWindow(element("window"), storms.window);
    showCompleteness(element("completeness"), storms.completeness);
    showFindings(element("findings"), element("findings-none"), findings);
    showStorms(element("storms"), element("storms-none"), element("storms-count"), storms);
    if (isPaused()) say("warn", "paused");
    else if (Number(controls.ended.value) > 0) say("", "looking back");
    else say("good", "live");
  } catch (error) {
    if (error.name === "AbortError") return;
    if (error instanceof Refused) say("warn", error.status === 503 ? `wait: ${error.message}` : error.message);
    else say("bad", "the agent does not answer");
  }
  schedule();
}

function isPaused() {
  return pause.getAttribute("aria-pressed") === "true";
}

function schedule() {
  clearTimeout(timer);
  if (!isPaused() && !document.hidden) timer = setTimeout(refresh, POLL_MS);
}

function fromAddress() {
  const asked = new URLSearchParams(location.hash.slice(1));
  for (const [name, select] of Object.entries(controls)) {
    const wanted = asked.get(name);
    if ([...select.options].some((option) => option.value === wanted)) select.value = wanted;
  }
}

function changed() {
  const asked = new URLSearchParams();
  for (const [name, select] of Object.entries(controls)) asked.set(name, select.value);
  history.replaceState(null, "", `#${asked}`);
  refresh();
}

element("controls").addEventListener("submit", (event) => event.preventDefault());
for (const select of Object.values(controls)) select.addEventListener("change", changed);
pause.addEventListener("click", () => {
  const paused = !isPaused();
  pause.setAttribute("aria-pressed", String(paused));
  pause.textContent = paused ? "Resume" : "Pause";
  if (paused) {
    clearTimeout(timer);
    say("warn", "paused");
  } else {
    refresh();
  }
});
document.addEventListener("visibilitychange", () => (document.hidden ? clearTimeout(timer) : isPaused() || refresh()));
addEventListener("hashchange", () => {
  fromAddress();
  refresh();
});

showLegend(element("legend"));
fromAddress();
refresh();
