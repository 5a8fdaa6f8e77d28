// Answers to elements. Whatever the agent saw is set as text, never as markup; elements that are still right
// are kept, so that focus and open rows survive a refresh.

const CAUSES = ["disk", "file_lock", "futex", "child_wait", "netlink", "inet", "unix_socket", "pipe", "sleep",
  "page_fault", "poll", "other"];
const WORDS = { on_cpu: "on CPU", runnable: "runnable", file_lock: "file lock", child_wait: "child wait",
  inet: "TCP/UDP", unix_socket: "unix socket", page_fault: "page fault" };
const word = (name) => WORDS[name] ?? name;

function make(tag, className, ...children) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

// Text in which backticks set commands off. Where they do not pair up, one belongs to a name: all are shown.
function prose(tag, className, text) {
  const pieces = text.split("`");
  if (pieces.length % 2 === 0) return make(tag, className, text);
  return make(tag, className, ...pieces.map((piece, at) => (at % 2 === 1 ? make("code", "", piece) : piece)));
}

const count = (number) => Number(number ?? 0).toLocaleString("en");
const percent = (share) => `${(100 * share).toFixed(share > 0 && share < 0.1 ? 1 : 0)} %`;

export function time(ns) {
  if (ns === null || ns === undefined) return "–";
  const units = [[1e9, "s"], [1e6, "ms"], [1e3, "µs"]];
  const [scale, unit] = units.find(([scale]) => ns >= scale) ?? [1, "ns"];
  const value = ns / scale;
  return `${value >= 100 ? value.toFixed(0) : value.toPrecision(3)} ${unit}`;
}

function clock(rfc3339) {
  return rfc3339 ? rfc3339.slice(11, 19) : "?";
}

export function showWindow(place, window) {
  place.textContent = `${clock(window.from)} – ${clock(window.until)} UTC, ${window.seconds.toFixed(0)} s`;
}

export function showLegend(place) {
  for (const name of ["on_cpu", "runnable", ...CAUSES]) {
    place.append(make("li", "", make("span", `swatch t-${name}`), word(name)));
  }
}

export function showCompleteness(place, block) {
  const missing = [];
  const sums = { lost: "lost", counted_only: "only counted", truncated: "cut short", evicted: "no room for" };
  for (const [field, verb] of Object.entries(sums)) {
    for (const [what, number] of Object.entries(block[field] ?? {})) {
      missing.push(`${verb}: ${count(number)} ${what.replaceAll("_", " ")}`);
    }
  }
  if (block.unattributed > 0) missing.push(`unattributed: ${count(block.unattributed)} records`);
  missing.push(...(block.degraded ?? []));
  const title = block.complete ? "Complete: nothing is missing from these numbers." : "Data are missing:";
  place.className = `completeness${block.complete ? " good" : ""}`;
  place.hidden = false;
  place.replaceChildren(make("strong", "", title));
  if (missing.length > 0) place.append(make("ul", "", ...missing.map((text) => make("li", "", text))));
}

// Puts one element per item into `place`, in order; keeps those whose key is still there.
function keep(place, items, keyOf, build, fill) {
  const before = new Map([...place.children].map((child) => [child.dataset.key, child]));
  const wanted = items.map((item, index) => {
    const key = `${keyOf(item)}#${items.slice(0, index).filter((other) => keyOf(other) === keyOf(item)).length}`;
    const child = before.get(key) ?? build(item, index);
    child.dataset.key = key;
    fill(child, item);
    return child;
  });
  const same = wanted.length === place.children.length && wanted.every((child, at) => place.children[at] === child);
  if (!same) place.replaceChildren(...wanted);
}

export function showFindings(place, none, answer) {
  const findings = answer.findings ?? [];
  none.hidden = findings.length > 0;
  none.textContent = answer.summary;
  keep(place, findings, (finding) => finding.id, () => make("li", ""), fillFinding);
}

function fillFinding(card, finding) {
  // Links are the only thing to focus here: unchanged text keeps them.
  const said = JSON.stringify(finding);
  if (card.said === said) return;
  card.said = said;
  card.className = `finding ${finding.severity}`;
  const links = finding.evidence.filter((path) => /^\/[^/]/.test(path)).map((path) => {
    const link = make("a", "mono", path);
    link.href = path;
    return link;
  });
  card.replaceChildren(
    make("h3", "", make("span", `badge ${finding.severity}`, finding.severity), " ", prose("span", "", finding.title)),
    make("ul", "fix", ...finding.fix.map((text) => prose("li", "", text))),
    make("ul", "detail", ...finding.detail.map((text) => prose("li", "", text))),
    make("p", "evidence", ...links),
  );
}

export function showStorms(place, none, total, answer) {
  const daemons = answer.daemons ?? [];
  none.hidden = daemons.length > 0;
  const storms = daemons.filter((daemon) => daemon.storm).length;
  const spawning = answer.daemons_matched === 1 ? "1 daemon spawned" : `${count(answer.daemons_matched)} daemons spawned`;
  total.textContent = daemons.length === 0 ? "" : `${spawning}, ${storms === 0 ? "none" : storms} in a storm`;
  keep(place, daemons, (daemon) => `${daemon.name} ${daemon.root?.pid ?? daemon.pids[0]} ${daemon.cgroup}`,
    (daemon, index) => {
      const card = make("details", "", make("summary"), make("div", "scroll"));
      card.open = daemon.storm || index === 0;
      return card;
    }, fillDaemon);
}

function fillDaemon(card, daemon) {
  const series = daemon.series;
  const spawns = daemon.classes.reduce((sum, own) => sum + own.spawns, 0);
  card.className = `daemon${daemon.storm ? " storm" : ""}`;
  card.children[0].replaceChildren(
    make("span", "name mono", daemon.name || daemon.comm),
    ...(daemon.storm ? [make("span", "badge storm", "storm")] : []),
    make("span", "who", who(daemon)),
    fact(count(spawns), spawns === 1 ? "spawn" : "spawns"),
    fact(count(series.loops), series.loops === 1 ? "loop" : "loops"),
    fact(time(series.duration_ns?.p50), "long (p50)"),
    ...(series.period_ns ? [fact(time(series.period_ns.p50), "apart")] : []),
    make("span", "share", shareBar(series.share), make("b", "", percent(series.share)), "with a child alive"),
  );
  card.children[1].replaceChildren(classTable(daemon.classes));
}

function fact(value, label) {
  return make("span", "fact", make("b", "", value), ` ${label}`);
}

function who(daemon) {
  const identity = daemon.identity ?? { kind: "unknown" };
  const pids = daemon.pids.length === 1 ? `pid ${daemon.pids[0]}` : `${count(daemon.processes)} processes`;
  if (identity.kind === "pod") return `pod ${identity.pod_uid}, ${pids}`;
  if (identity.kind === "host") return `host ${identity.unit}, ${pids}`;
  return `unknown owner, ${pids}`;
}

function classTable(classes) {
  const heads = [["Command", ""], ["Spawns", "number"], ["Per loop", "number"], ["Failed", "number"],
    ["Each", "number"], ["Start-up", "number"], ["Share of the loop", ""], ["", "number"], ["Where its time went", ""],
    ["Netlink", "number"]];
  const head = make("tr", "", ...heads.map(([text, kind]) => {
    const cell = make("th", kind, text);
    cell.scope = "col";
    return cell;
  }));
  return make("table", "", make("thead", "", head), make("tbody", "", ...classes.map(classRow)));
}

function classRow(own) {
  const failed = Object.values(own.exits.codes).concat(Object.values(own.exits.signals))
    .reduce((sum, number) => sum + number, own.counted_failed);
  const each = own.spawns > own.running ? own.wall_ns / (own.spawns - own.running) : null;
  const mode = own.mode === "overlapped" ? ` ×${own.overlap.toFixed(1)} at once` : "";
  const messages = own.netlink?.total.messages ?? 0;
  const cells = [
    make("td", "", make("code", "", own.argv_class), make("span", "quiet", mode)),
    make("td", "number", count(own.spawns)),
    make("td", "number", own.spawns_per_loop ? count(own.spawns_per_loop.p50) : "–"),
    make("td", failed > 0 ? "number bad-number" : "number", failed > 0 ? count(failed) : "0"),
    make("td", "number", time(each)),
    make("td", "number", time(own.spawn_cost?.mean_ns)),
    make("td", "middle", shareBar(own.share)),
    make("td", "number", percent(own.share)),
    make("td", "middle", splitBar(own.split)),
    make("td", "number", messages > 0 ? count(messages) : "–"),
  ];
  return make("tr", "", ...cells);
}

// A width set through the object model is no inline style: the page's policy allows it.
function part(className, share, title) {
  const made = make("span", className);
  made.style.width = `${Math.min(100, 100 * share)}%`;
  if (title) made.title = title;
  return made;
}

function shareBar(share) {
  const bar = make("div", "bar of-loop", part("", share));
  bar.setAttribute("role", "img");
  bar.setAttribute("aria-label", percent(share));
  return bar;
}

function splitBar(split) {
  const parts = [["on_cpu", split.on_cpu_ns], ["runnable", split.runnable_ns],
    ...CAUSES.map((cause) => [cause, split.blocked_by[cause] ?? 0])].filter(([, ns]) => ns > 0);
  const whole = parts.reduce((sum, [, ns]) => sum + ns, 0);
  const label = ([name, ns]) => `${word(name)} ${percent(ns / whole)} (${time(ns)})`;
  const bar = make("div", "bar", ...parts.map((own) => part(`t-${own[0]}`, own[1] / whole, label(own))));
  bar.setAttribute("role", "img");
  bar.setAttribute("aria-label", parts.map(label).join(", ") || "nothing measured");
  return bar;
}
