// The flow: numbers, thickness and colours of the arrows, once a second.

import { read } from "./actions.js";
import { announcer, follow } from "./live.js";
import { byId, counted, grouped, setText } from "./words.js";

const LEVELS = ["calm", "busy", "behind", "stuck"];
const worse = (a, b) => (LEVELS.indexOf(a) > LEVELS.indexOf(b) ? a : b);

/** The same calculation as on the server: see `Weight::of`. */
function weight(waiting, rate) {
  let level = "busy";
  if (waiting === 0) level = rate > 0 ? "busy" : "calm";
  else if (rate !== null && rate <= 0) level = "stuck";
  else if (waiting >= 1000) level = "behind";
  const known = rate ?? 0;
  const speed = known <= 0 ? 0 : known < 10 ? 1 : known < 500 ? 2 : 3;
  const thickness = waiting === 0 ? 0 : Math.min(4, Math.floor(Math.log10(waiting)) + 1);
  return { level, speed, thickness };
}

function rateText(rate) {
  if (rate === null) return "–/s";
  if (rate === 0) return "0/s";
  return rate < 10 ? `${rate.toFixed(1)}/s` : `${grouped(Math.round(rate))}/s`;
}

export function flow() {
  const rows = new Map();
  for (const row of byId("flow-table").tBodies[0].rows) {
    rows.set(`${row.dataset.stream} ${row.dataset.group}`, row);
  }
  let levels = new Map();

  function show(now) {
    const arrows = new Map();
    for (const stream of now.streams) {
      for (const group of stream.groups) {
        const row = rows.get(`${stream.stream} ${group.group}`);
        if (!row) continue;
        const waiting = group.lag + group.pending;
        const put = (name, text) => setText(row.querySelector(`.f-${name}`), text);
        put("lag", (group.lag_is_estimate ? "~" : "") + grouped(group.lag));
        put("pending", grouped(group.pending));
        put("rate", rateText(group.rate));
        put("length", grouped(stream.length));
        put("consumers", grouped(group.consumers));
        showLevel(row.querySelector(".level"), weight(waiting, group.rate).level);
        const sum = arrows.get(row.dataset.arrow) ?? { waiting: 0, rate: null };
        sum.waiting += waiting;
        if (group.rate !== null) sum.rate = (sum.rate ?? 0) + group.rate;
        arrows.set(row.dataset.arrow, sum);
      }
    }
    const services = new Map();
    for (const [name, { waiting, rate }] of arrows) {
      const arrow = document.querySelector(`[data-arrow="${name}"].arrow`);
      const looks = weight(waiting, rate);
      Object.assign(arrow.dataset, looks);
      setText(arrow.querySelector(".waiting"), grouped(waiting));
      setText(arrow.querySelector(".rate"), rateText(rate));
      const service = name.split(">")[1];
      const sum = services.get(service) ?? { waiting: 0, level: "calm" };
      services.set(service, { waiting: sum.waiting + waiting, level: worse(sum.level, looks.level) });
    }
    for (const [name, { waiting, level }] of services) {
      const service = document.querySelector(`.service[data-service="${name}"]`);
      service.dataset.level = level;
      setText(service.querySelector(".service-state .waiting"), grouped(waiting));
      const line = document.querySelector(`[data-summary="${name}"]`);
      setText(line.querySelector(".waiting"), grouped(waiting));
      showLevel(line.querySelector(".level"), level);
    }
    for (const { topic, count } of now.dead) {
      const line = document.querySelector(`[data-dead="${topic}"]`);
      line.dataset.some = count > 0;
      setText(line.querySelector("b"), grouped(count));
      const dead = document.querySelector(`.service[data-service="${line.dataset.service}"] .dead`);
      dead.setAttribute("visibility", count > 0 ? "visible" : "hidden");
      setText(dead.querySelector(".count"), counted(count, "dead letter"));
    }
    const before = levels;
    levels = services;
    const changed = [...services].some(([name, { level }]) => before.get(name)?.level !== level);
    if (before.size && changed) announce();
  }

  const announce = announcer(() => {
    const slow = [...levels].filter(([, { level }]) => LEVELS.indexOf(level) > 1);
    if (!slow.length) return "No service is behind.";
    return slow.map(([name, { level }]) => `${name} is ${level}.`).join(" ");
  });

  follow("/events?flow=true", { flow: show }, async () => show(await read("/flow")));
}

function showLevel(mark, level) {
  mark.dataset.level = level;
  setText(mark, level);
}
