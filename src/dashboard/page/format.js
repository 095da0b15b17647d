// Numbers, times and names as people read them: fixed decimals, local times, 24 hours.

const CLOCK = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const MINUTE = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
const DAY = new Intl.DateTimeFormat("en-GB", { weekday: "short", day: "2-digit", month: "short" });
const EXACT = new Intl.DateTimeFormat("en-GB", {
  weekday: "short", day: "2-digit", month: "short", year: "numeric",
  hour: "2-digit", minute: "2-digit", second: "2-digit", fractionalSecondDigits: 3, timeZoneName: "short",
});
const COUNT = new Intl.NumberFormat("en-US");

export const clock = (time) => CLOCK.format(new Date(time));
export const minute = (time) => MINUTE.format(new Date(time));
export const day = (time) => DAY.format(new Date(time));
export const count = (number) => COUNT.format(number);
export const score = (value) => value.toFixed(2);

/** With the zone's short name and, since that is often a mere offset, its full one. */
export function exactTime(time) {
  const text = EXACT.format(new Date(time));
  const { timeZone } = EXACT.resolvedOptions();
  return text.endsWith(timeZone) ? text : `${text} (${timeZone})`;
}

/** A time of today as a clock shows it, another one with its day. */
export function when(time) {
  const then = new Date(time);
  const today = then.toDateString() === new Date().toDateString();
  return today ? clock(then) : `${day(then)}, ${clock(then)}`;
}

/** A number with a true minus sign, which has the width of a digit. */
export function signed(value, decimals, plus = false) {
  const digits = Math.abs(value).toFixed(decimals);
  const sign = value < 0 && Number(digits) !== 0 ? "\u2212" : plus ? "+" : "";
  return sign + digits;
}

export function level(dbfs) {
  return dbfs === null || dbfs === undefined ? "no level" : `${signed(dbfs, 1)} dBFS`;
}

export function duration(seconds) {
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  const two = (number) => String(number).padStart(2, "0");
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${two(whole % 60)} s`;
  return `${Math.floor(whole / 3600)} h ${two(Math.floor((whole % 3600) / 60))} min`;
}

/** From a start to an end, which may not be known yet. */
export function span(start, end) {
  return end === null ? null : duration((new Date(end) - new Date(start)) / 1000);
}

/** A place in a recording, mm:ss.s as `hearken classify` has it. */
export function place(seconds) {
  const tenths = Math.round(seconds * 10);
  const minutes = String(Math.floor(tenths / 600)).padStart(2, "0");
  return `${minutes}:${((tenths % 600) / 10).toFixed(1).padStart(4, "0")}`;
}

export function frequency(hz) {
  return hz >= 1000 ? `${hz / 1000} kHz` : `${hz} Hz`;
}

/** A class as a person says it; the configuration spells it with underscores. */
export const sound = (name) => name.replaceAll("_", " ");

/** A time for <input type="datetime-local">, which wants local time without a zone. */
export function forInput(time) {
  const then = new Date(time);
  return new Date(then - then.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
}
