// From texts to an effective configuration: every key checked, every value typed, its origin remembered.
//
// Invariants:
//   CF1. A key that nobody knows is an error with the nearest known one; nothing is ignored silently.
//   CF2. Code beats the command line, which beats a file, which beats defaults (Flink's order).
//   CF3. All mistakes are reported at once, each with what to do.
//   CF4. `toRecord()` parses to an equal configuration: that is how processes hand it on.
//
// Not here: the options (*-options.ts), what they mean together (settings.ts).

import { didYouMean, Failure, toFailure } from "@sluice/kit";
import { JVM_ONLY_PREFIXES } from "./known-options.ts";
import type { ConfigOption } from "./option.ts";
import { findOption, optionNames } from "./registry.ts";

/** Who said so; later ones win (CF2). */
export const CONFIG_ORIGINS = ["default", "file", "command line", "code"] as const;

export type ConfigOrigin = (typeof CONFIG_ORIGINS)[number];

export interface ConfigEntry {
  readonly key: string;
  readonly value: string;
  readonly origin: Exclude<ConfigOrigin, "default">;
}

interface Stored {
  readonly text: string;
  readonly value: unknown;
  readonly origin: ConfigOrigin;
  /** The name that was written: the key or an alias. */
  readonly writtenAs: string;
}

/** Values by option; only `parseConfiguration` makes one. */
export class EffectiveConfiguration {
  readonly #values: ReadonlyMap<string, Stored>;
  /** For people, one sentence each. */
  readonly warnings: readonly string[];

  constructor(values: ReadonlyMap<string, Stored>, warnings: readonly string[]) {
    this.#values = values;
    this.warnings = warnings;
  }

  /** The value in force. */
  get<T>(option: ConfigOption<T>): T {
    const stored = this.#values.get(option.key);
    if (stored !== undefined) return stored.value as T;
    return option.default === undefined ? (undefined as T) : option.parse(option.default);
  }

  origin(option: ConfigOption<unknown>): ConfigOrigin {
    return this.#values.get(option.key)?.origin ?? "default";
  }

  /** Whether somebody set it. */
  isSet(option: ConfigOption<unknown>): boolean {
    return this.#values.has(option.key);
  }

  /** Everything that was set, under today's keys; defaults left out (CF4). */
  toRecord(): Readonly<Record<string, string>> {
    return Object.fromEntries(
      [...this.#values].sort(([a], [b]) => (a < b ? -1 : 1)).map(([key, { text }]) => [key, text]),
    );
  }
}

/**
 * Checks and types the entries. Among entries of one origin the last of a key wins; a key and its older name with different
 * values are a mistake. Throws Failure CONFIG_UNKNOWN_KEY, CONFIG_NOT_IMPLEMENTED or CONFIG_INVALID (the code of the first
 * mistake, the text of all).
 */
export function parseConfiguration(entries: readonly ConfigEntry[]): EffectiveConfiguration {
  const values = new Map<string, Stored>();
  const warnings: string[] = [];
  const failures: Failure[] = [];
  for (const entry of entries) {
    try {
      take(entry, values, warnings);
    } catch (thrown) {
      failures.push(toFailure(thrown, "CONFIG_INVALID", entry.key));
    }
  }
  throwTogether(failures);
  return new EffectiveConfiguration(values, warnings);
}

/** A configuration that another process has checked already, or one written as an object. */
export function configurationOf(
  record: Readonly<Record<string, string>>,
  origin: ConfigEntry["origin"] = "code",
): EffectiveConfiguration {
  return parseConfiguration(Object.entries(record).map(([key, value]) => ({ key, value, origin })));
}

function take(entry: ConfigEntry, values: Map<string, Stored>, warnings: string[]): void {
  const key = entry.key.trim();
  const option = findOption(key);
  if (option === undefined) {
    const prefix = JVM_ONLY_PREFIXES.find((candidate) => key.startsWith(candidate));
    if (prefix === undefined) throw unknownKey(key, entry.origin);
    warnings.push(`${key} concerns the JVM or services that Sluice does not have; it changes nothing`);
    return;
  }
  const before = values.get(option.key);
  const value = option.parse(entry.value);
  if (before !== undefined && rank(before.origin) > rank(entry.origin)) return;
  if (before !== undefined && before.origin === entry.origin && before.writtenAs !== key && before.value !== value) {
    throw new Failure("CONFIG_INVALID", {
      retry: "never",
      message: `${before.writtenAs} and ${key} are two names of one option and have different values`,
      remedy: `Keep ${option.key} only.`,
    });
  }
  values.set(option.key, { text: entry.value.trim(), value, origin: entry.origin, writtenAs: key });
}

function rank(origin: ConfigOrigin): number {
  return CONFIG_ORIGINS.indexOf(origin);
}

function unknownKey(key: string, origin: ConfigOrigin): Failure {
  return new Failure("CONFIG_UNKNOWN_KEY", {
    retry: "never",
    message: `${key} (from ${origin === "code" ? "the job's code" : `the ${origin}`}) is not a configuration key${didYouMean(key, optionNames())}`,
    remedy: "Correct or remove the key; docs/configuration.md lists all of them.",
  });
}

/** CF3. */
function throwTogether(failures: readonly Failure[]): void {
  const [first, ...others] = failures;
  if (first === undefined) return;
  if (others.length === 0) throw first;
  throw new Failure(first.code, {
    retry: "never",
    message: [
      `${failures.length} mistakes in the configuration`,
      ...failures.map((failure) => `  - ${failure.message} ${failure.remedy}`),
    ].join("\n"),
    remedy: "Correct them all; docs/configuration.md lists every key.",
  });
}
