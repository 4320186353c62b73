// One configuration option: its key, how its text is read, its default, and whether Sluice does what it says.
//
// Invariants:
//   OP1. An option that Flink knows and Sluice does not implement accepts only the value that describes what Sluice does anyway.
//   OP2. A default text parses with the option's own type.
//
// Not here: the options themselves (*-options.ts), where values come from (configuration.ts).

import { Failure, parseBytes, parseDurationMs } from "@sluice/kit";

/** How the text of an option is read. */
export interface OptionType<T> {
  /** Name and limits for the documentation: `duration`, `int >= 1`. */
  readonly name: string;
  /** Throws Failure CONFIG_INVALID that names the key, the text and what is valid. */
  readonly parse: (text: string, key: string) => T;
}

/**
 * `implemented`: does what Flink's documentation says. `known`: a Flink option that Sluice does not implement yet.
 * `jvm-only`: has no meaning here; accepted with a warning.
 */
export type OptionStatus = "implemented" | "known" | "jvm-only";

export interface OptionSpec<T> {
  readonly key: string;
  /** Older names of Flink that mean the same. */
  readonly aliases?: readonly string[];
  readonly type: OptionType<T>;
  readonly default?: string;
  /** Flink's default where ours differs (docs/configuration.md lists these). */
  readonly flinkDefault?: string;
  readonly description: string;
  readonly status?: OptionStatus;
  /** Texts of the values that are implemented, when not all are. */
  readonly only?: readonly string[];
  /** Of an option whose other values are refused for good: why, as the end of a sentence. */
  readonly because?: string;
}

/** An option whose value is a T; `T | undefined` when it has no default. */
export class ConfigOption<T> {
  readonly key: string;
  readonly aliases: readonly string[];
  readonly type: OptionType<T>;
  readonly default: string | undefined;
  readonly flinkDefault: string | undefined;
  readonly description: string;
  readonly status: OptionStatus;
  /** Undefined: every valid value is implemented. */
  readonly only: readonly string[] | undefined;
  readonly because: string | undefined;

  constructor(spec: OptionSpec<T>) {
    this.key = spec.key;
    this.aliases = spec.aliases ?? [];
    this.type = spec.type;
    this.default = spec.default;
    this.flinkDefault = spec.flinkDefault;
    this.description = spec.description;
    this.status = spec.status ?? "implemented";
    this.because = spec.because;
    this.only = spec.only ?? (this.status === "known" ? (spec.default === undefined ? [] : [spec.default]) : undefined);
  }

  /** Reads a text. Throws CONFIG_INVALID, or CONFIG_NOT_IMPLEMENTED for a valid value that Sluice does not implement (OP1). */
  parse(text: string): T {
    const value = this.type.parse(text, this.key);
    if (this.only === undefined) return value;
    const isImplemented = this.only.some((accepted) => Object.is(this.type.parse(accepted, this.key), value));
    if (isImplemented) return value;
    throw new Failure("CONFIG_NOT_IMPLEMENTED", {
      retry: "never",
      message:
        this.status === "known"
          ? `${this.key} is an option of Flink that Sluice does not implement yet`
          : this.because !== undefined
            ? `${this.key}: the value "${text}" is refused: ${this.because}`
            : `${this.key}: the value "${text}" is one of Flink's that Sluice does not implement yet`,
      remedy:
        this.only.length === 0 ? "Leave the key out." : `Leave the key out, or set it to ${this.only.join(" or ")}.`,
    });
  }
}

/** An option with a default: its value is never undefined. */
export function withDefault<T>(spec: OptionSpec<T> & { readonly default: string }): ConfigOption<T> {
  return new ConfigOption(spec);
}

/** An option that may be absent. */
export function optional<T>(spec: OptionSpec<T>): ConfigOption<T | undefined> {
  return new ConfigOption<T | undefined>(spec);
}

/** The Failure of a text that an option does not accept. */
export function invalidValue(key: string, text: string, reason: string, remedy: string): Failure {
  return new Failure("CONFIG_INVALID", { retry: "never", message: `${key}: "${text}" ${reason}`, remedy });
}

/** Milliseconds. */
export function duration(limits: { readonly minMs: number } = { minMs: 0 }): OptionType<number> {
  return {
    name: limits.minMs > 0 ? `duration >= ${limits.minMs} ms` : "duration",
    parse: (text, key) => {
      const ms = parseDurationMs(text, key);
      if (ms >= limits.minMs) return ms;
      throw invalidValue(key, text, `is shorter than ${limits.minMs} ms`, `Give at least ${limits.minMs} ms.`);
    },
  };
}

/** Bytes. */
export function memory(limits: { readonly minBytes: number } = { minBytes: 0 }): OptionType<number> {
  return {
    name: "memory size",
    parse: (text, key) => {
      const bytes = parseBytes(text, key);
      if (bytes >= limits.minBytes) return bytes;
      throw invalidValue(key, text, `is less than ${limits.minBytes} bytes`, `Give at least ${limits.minBytes} bytes.`);
    },
  };
}

/** A whole number within limits, both included. */
export function int(limits: { readonly min: number; readonly max?: number }): OptionType<number> {
  const { min, max = 2 ** 31 - 1 } = limits;
  const range = max === 2 ** 31 - 1 ? `at least ${min}` : `from ${min} to ${max}`;
  return {
    name: max === 2 ** 31 - 1 ? `int >= ${min}` : `int ${min} to ${max}`,
    parse: (text, key) => {
      const value = /^[+-]?\d+$/.test(text.trim()) ? Number(text) : Number.NaN;
      if (Number.isSafeInteger(value) && value >= min && value <= max) return value;
      throw invalidValue(key, text, `is not a whole number ${range}`, `Give a whole number ${range}.`);
    },
  };
}

/** A number within limits, both included. */
export function double(limits: { readonly min: number; readonly max?: number }): OptionType<number> {
  const { min, max = Number.POSITIVE_INFINITY } = limits;
  const range = max === Number.POSITIVE_INFINITY ? `at least ${min}` : `from ${min} to ${max}`;
  return {
    name: `number ${range}`,
    parse: (text, key) => {
      const value = text.trim() === "" ? Number.NaN : Number(text);
      if (Number.isFinite(value) && value >= min && value <= max) return value;
      throw invalidValue(key, text, `is not a number ${range}`, `Give a number ${range}.`);
    },
  };
}

/** `true` or `false`, in any case. */
export function boolean(): OptionType<boolean> {
  return {
    name: "true or false",
    parse: (text, key) => {
      const value = text.trim().toLowerCase();
      if (value === "true" || value === "false") return value === "true";
      throw invalidValue(key, text, "is neither true nor false", "Give true or false.");
    },
  };
}

/** Any text that is not blank. */
export function string(): OptionType<string> {
  return {
    name: "text",
    parse: (text, key) => {
      if (text.trim() !== "") return text;
      throw invalidValue(key, text, "is empty", "Give a value or leave the key out.");
    },
  };
}

/** Absolute directories of this machine, separated by commas or semicolons; each may be written as a file: URI. */
export function directories(): OptionType<readonly string[]> {
  return {
    name: "directories",
    parse: (text, key) => {
      const names = text
        .split(/[,;]/)
        .map((name) => name.trim().replace(/^file:\/\//, ""))
        .filter((name) => name !== "");
      const wrong = names.find((name) => !name.startsWith("/"));
      if (names.length > 0 && wrong === undefined) return names;
      throw invalidValue(
        key,
        text,
        wrong === undefined ? "names no directory" : `names "${wrong}", which is not absolute`,
        "Give absolute directories, for example /mnt/disk1,/mnt/disk2.",
      );
    },
  };
}

/**
 * One of some names. As in Flink upper and lower case, '-' and '_' mean the same; `synonyms` maps further spellings to a
 * value.
 */
export function oneOf<const T extends string>(
  values: readonly T[],
  synonyms: Readonly<Record<string, T>> = {},
): OptionType<T> {
  const fold = (text: string): string => text.trim().toLowerCase().replaceAll("-", "").replaceAll("_", "");
  return {
    name: values.join(" | "),
    parse: (text, key) => {
      const wanted = fold(text);
      const value = values.find((candidate) => fold(candidate) === wanted) ?? synonyms[wanted];
      if (value !== undefined) return value;
      throw invalidValue(key, text, `is not one of ${values.join(", ")}`, `Give one of ${values.join(", ")}.`);
    },
  };
}

/** Directory of a store: `file:///dir` or `s3://bucket/prefix`, without a slash at the end. */
export function storeUri(): OptionType<string> {
  const remedy = "Give file:///an/absolute/directory or s3://bucket/prefix.";
  return {
    name: "file:///... or s3://...",
    parse: (text, key) => {
      const uri = text.trim();
      const scheme = /^([a-z][a-z0-9+.-]*):\/\//i.exec(uri)?.[1]?.toLowerCase();
      if (scheme === undefined) {
        const hint = uri.startsWith("/") ? `Write file://${uri} for this directory, or s3://bucket/prefix.` : remedy;
        throw invalidValue(key, text, "has no scheme", hint);
      }
      if (["s3a", "s3p", "hdfs", "webhdfs", "viewfs", "gs", "oss", "abfs", "abfss", "wasb", "wasbs"].includes(scheme)) {
        throw new Failure("CONFIG_NOT_IMPLEMENTED", {
          retry: "never",
          message: `${key}: "${text}" is on a kind of store (${scheme}) that Sluice does not implement yet`,
          remedy,
        });
      }
      if (scheme === "file" && /^file:\/\/\/[^/]/i.test(uri)) return uri.replace(/\/+$/, "");
      if (scheme === "s3" && /^s3:\/\/[^/]/i.test(uri)) return uri.replace(/\/+$/, "");
      throw invalidValue(key, text, "is not a directory of a store", remedy);
    },
  };
}
