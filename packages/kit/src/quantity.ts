// Durations and memory sizes as Flink writes them, read and printed.
//
// Invariants:
//   Q1. Whatever formatDuration and formatBytes print with `exact` values, the parsers read back.
//   Q2. A wrong text gives CONFIG_INVALID that names the option, the text and valid examples.
//
// Accepted (Flink: TimeUtils.parseDuration, MemorySize.parse): a number, optional blanks, a unit; without unit milliseconds
// or bytes; durations also as ISO-8601 ("PT10S"). Fractions only with a unit and only if the result is whole.

import { Failure } from "./failure.ts";

const DAY_MS = 86_400_000;

const DURATION_UNITS: ReadonlyMap<string, number> = new Map(
  (
    [
      [DAY_MS, "d day days"],
      [3_600_000, "h hour hours"],
      [60_000, "m min minute minutes"],
      [1_000, "s sec secs second seconds"],
      [1, "ms milli millis millisecond milliseconds"],
    ] as const
  ).flatMap(([factor, names]) => names.split(" ").map((name) => [name, factor] as const)),
);

const FINE_UNITS = new Set("µs micro micros microsecond microseconds ns nano nanos nanosecond nanoseconds".split(" "));

const SIZE_UNITS: ReadonlyMap<string, number> = new Map(
  (
    [
      [1, "b byte bytes"],
      [1024, "k kb ki kib kibibyte kibibytes"],
      [1024 ** 2, "m mb mi mib mebibyte mebibytes"],
      [1024 ** 3, "g gb gi gib gibibyte gibibytes"],
      [1024 ** 4, "t tb ti tib tebibyte tebibytes"],
    ] as const
  ).flatMap(([factor, names]) => names.split(" ").map((name) => [name, factor] as const)),
);

const DURATION_EXAMPLES = '"500 ms", "10 s", "5 min", "1 h", "PT10S" or 1500 (milliseconds)';
const SIZE_EXAMPLES = '"64 kb", "32 mb", "1 gb" or 65536 (bytes); units are powers of 1024';

function invalid(option: string, text: string | number, reason: string, examples: string): Failure {
  return new Failure("CONFIG_INVALID", {
    retry: "never",
    message: `${option}: ${JSON.stringify(text)} ${reason}`,
    remedy: `Write for example ${examples}.`,
  });
}

/** Milliseconds of a duration text; `option` names the setting in errors. Rejects negatives and anything under 1 ms. */
export function parseDurationMs(text: string | number, option: string): number {
  const ms = typeof text === "string" ? (parseIsoMs(text.trim()) ?? parseAmount(text, option, DURATION)) : text;
  if (!Number.isSafeInteger(ms) || ms < 0)
    throw invalid(option, text, "is not a whole, non-negative number of milliseconds", DURATION_EXAMPLES);
  return ms;
}

/** Bytes of a memory size text; `option` names the setting in errors. */
export function parseBytes(text: string | number, option: string): number {
  const bytes = typeof text === "string" ? parseAmount(text, option, SIZE) : text;
  if (!Number.isSafeInteger(bytes) || bytes < 0)
    throw invalid(option, text, "is not a whole, non-negative number of bytes", SIZE_EXAMPLES);
  return bytes;
}

interface Kind {
  readonly noun: string;
  readonly units: ReadonlyMap<string, number>;
  readonly examples: string;
}

const DURATION: Kind = { noun: "duration", units: DURATION_UNITS, examples: DURATION_EXAMPLES };
const SIZE: Kind = { noun: "memory size", units: SIZE_UNITS, examples: SIZE_EXAMPLES };

function parseAmount(text: string, option: string, kind: Kind): number {
  const match = /^(\d+)(?:\.(\d{1,9}))?\s*([a-zµ]*)$/iu.exec(text.trim());
  if (match === null) throw invalid(option, text, `is not a ${kind.noun}`, kind.examples);
  const [, whole = "", fraction, unit = ""] = match;
  const name = unit.toLowerCase();
  if (kind === DURATION && FINE_UNITS.has(name))
    throw invalid(option, text, "is finer than milliseconds, the smallest unit here", kind.examples);
  const factor = name === "" ? 1 : kind.units.get(name);
  if (factor === undefined) throw invalid(option, text, `has the unknown unit "${unit}"`, kind.examples);
  if (fraction === undefined) return Number(whole) * factor;
  // Scaled in integers: 0.1 has no exact binary form, but "0.1 s" is exactly 100 ms.
  const scale = 10 ** fraction.length;
  return Number(whole) * factor + (Number(fraction) * factor) / scale;
}

function parseIsoMs(text: string): number | undefined {
  const match = /^P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)(?:\.(\d{1,3}))?S)?)?$/i.exec(text);
  if (match === null || /[PT]$/i.test(text)) return undefined;
  const [, days = "0", hours = "0", minutes = "0", seconds = "0", fraction = ""] = match;
  return (
    Number(days) * DAY_MS +
    Number(hours) * 3_600_000 +
    Number(minutes) * 60_000 +
    Number(seconds) * 1_000 +
    Number(fraction.padEnd(3, "0"))
  );
}

/** A duration for people: "350 ms", "1.5 s", "2 min 5 s", "3 h", "2 d 4 h". */
export function formatDuration(durationMs: number): string {
  if (!Number.isFinite(durationMs)) return "unlimited";
  const ms = Math.round(Math.abs(durationMs));
  const sign = durationMs < 0 && ms > 0 ? "-" : "";
  if (ms < 1_000) return `${sign}${ms} ms`;
  if (ms < 60_000) return `${sign}${trimZeros(ms / 1_000, ms % 1_000 === 0 ? 0 : ms < 10_000 ? 2 : 1)} s`;
  const parts: string[] = [];
  let rest = Math.round(ms / 1_000);
  for (const [seconds, unit] of [
    [86_400, "d"],
    [3_600, "h"],
    [60, "min"],
    [1, "s"],
  ] as const) {
    const count = Math.floor(rest / seconds);
    rest -= count * seconds;
    if (count > 0) parts.push(`${count} ${unit}`);
    else if (parts.length > 0) break;
  }
  return sign + parts.slice(0, 2).join(" ");
}

/** A size for people: "512 bytes", "1.5 kb", "32 mb". Units are powers of 1024, as Flink prints them. */
export function formatBytes(sizeBytes: number): string {
  const units = ["bytes", "kb", "mb", "gb", "tb"] as const;
  let value = sizeBytes;
  let unit = 0;
  while (Math.abs(value) >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${trimZeros(value, unit === 0 ? 0 : value < 10 ? 2 : 1)} ${units[unit]!}`;
}

function trimZeros(value: number, digits: number): string {
  const text = value.toFixed(digits);
  return text.includes(".") ? text.replace(/\.?0+$/, "") : text;
}
