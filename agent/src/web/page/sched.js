// Asks for the page again: with the fields that are filled in, and, while it shows the present, every few seconds.
const POLL_MS = 2000;
const form = document.getElementById("asked");
const status = document.getElementById("status");
const isLive = !new URLSearchParams(location.search).has("ago");

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const filled = [...new FormData(form)].filter(([, value]) => value.trim() !== "");
  location.search = new URLSearchParams(filled.map(([name, value]) => [name, value.trim()]));
});

function say(kind, text) {
  status.className = `status ${kind}`;
  status.textContent = text;
}

// One question at a time: an agent that is slow must not be asked by everyone who looks, again and again.
let isAsking = false;

async function refresh() {
  if (isAsking) return;
  isAsking = true;
  try {
    const response = await fetch(location.href);
    if (!response.ok) throw new Error((await response.json()).error);
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    document.getElementById("answer").replaceWith(page.getElementById("answer"));
    say("good", "live");
  } catch (error) {
    say("bad", error instanceof TypeError ? "the agent does not answer" : error.message);
  } finally {
    isAsking = false;
  }
}

// What somebody points at, or has reached with the keyboard, stays where it is.
const isLookedAt = () => document.querySelector("#answer :hover, #answer :focus") !== null;

if (isLive) setInterval(() => document.hidden || isLookedAt() || refresh(), POLL_MS);
else say("", "looking back");
