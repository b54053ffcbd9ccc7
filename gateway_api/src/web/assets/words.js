// Formats numbers and times for people, in the same way as the server.

export const byId = (id) => document.getElementById(id);

const numbers = new Intl.NumberFormat("en-US");
export const grouped = (number) => numbers.format(number);

/** `1 order`, `2 orders`. */
export const counted = (count, noun) => `${grouped(count)} ${noun}${count === 1 ? "" : "s"}`;

/** The age of an event: `12 s`, `3 min`, `2 h`, `4 d`. */
export function ago(millis) {
  const seconds = Math.max(0, Math.floor(millis / 1000));
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86400)} d`;
}

const seconds = { hour: "2-digit", minute: "2-digit", second: "2-digit" };
const clocks = {
  both: new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" }),
  date: new Intl.DateTimeFormat(undefined, { dateStyle: "medium" }),
  time: new Intl.DateTimeFormat(undefined, { ...seconds, fractionalSecondDigits: 3 }),
};
export const local = (millis, part = "both") => clocks[part].format(new Date(millis));

/** Shows times in the reader's time zone; ages have the time as their tooltip. */
export function showTimes(root) {
  for (const time of root.querySelectorAll("time[datetime]")) {
    const at = Date.parse(time.dateTime);
    if (Number.isNaN(at)) continue;
    if (time.dataset.clock) time.textContent = local(at, time.dataset.clock);
    else if (!time.title) time.title = local(at);
  }
}

/** Sets a text only if it differs, so that nothing is drawn or read out again. */
export function setText(element, text) {
  const wanted = String(text);
  if (element && element.textContent !== wanted) element.textContent = wanted;
}

export const short = (text, limit) => {
  const characters = Array.from(text);
  return characters.length > limit ? `${characters.slice(0, limit).join("")}…` : text;
};
