// Parameters of a job: what stands behind `--name` on its command line, declared with types, defaults and help.
//
// Invariants (tests cite them):
//   JP1. Every argument belongs to a declared parameter; another one is an error that names the nearest.
//   JP2. A value has its declared type, or planning fails and says how to call the job.
//
// Not here: where arguments come from, and that they are frozen in the plan (graph/).

import { didYouMean, Failure, parseDurationMs } from "@sluice/kit";

/** What a parameter holds. */
export type ParameterValue = string | number | boolean;

/** One declared parameter. */
export interface Parameter<T extends ParameterValue | undefined> {
  /** For the help text: `int`, `duration`, `one of a, b`. */
  readonly type: string;
  readonly help: string;
  /** Undefined with `isRequired` false: the value may be absent. */
  readonly default: T | undefined;
  readonly isRequired: boolean;
  /** What is wrong with the text is thrown as an Error. */
  readonly parse: (text: string) => T;
}

/** Options of every parameter. Without `default` it is required. */
export interface ParameterOptions<T> {
  readonly default?: T;
  readonly help?: string;
}

function parameter<T extends ParameterValue>(
  type: string,
  options: ParameterOptions<T>,
  parse: (text: string) => T,
): Parameter<T> {
  const { help = "" } = options;
  return { type, help, default: options.default, isRequired: options.default === undefined, parse };
}

function numeric(text: string, isValid: (value: number) => boolean, wanted: string): number {
  const value = text.trim() === "" ? Number.NaN : Number(text);
  if (isValid(value)) return value;
  throw new Error(`is not ${wanted}`);
}

/** Declares parameters: `env.declareParameters({ keys: Parameters.int({ default: 100 }) })`. */
export const Parameters = {
  string: (options: ParameterOptions<string> = {}): Parameter<string> => parameter("string", options, (text) => text),
  int: (
    options: ParameterOptions<number> & { readonly min?: number; readonly max?: number } = {},
  ): Parameter<number> => {
    const { min = Number.MIN_SAFE_INTEGER, max = Number.MAX_SAFE_INTEGER } = options;
    const wanted =
      options.min === undefined && options.max === undefined
        ? "a whole number"
        : `a whole number from ${min} to ${max}`;
    return parameter("int", options, (text) =>
      numeric(text, (value) => Number.isSafeInteger(value) && value >= min && value <= max, wanted),
    );
  },
  number: (options: ParameterOptions<number> = {}): Parameter<number> =>
    parameter("number", options, (text) => numeric(text, Number.isFinite, "a number")),
  /** `--name` alone means true. */
  boolean: (options: ParameterOptions<boolean> = {}): Parameter<boolean> =>
    parameter("boolean", { default: false, ...options }, (text) => {
      if (text === "true" || text === "false") return text === "true";
      throw new Error("is neither true nor false");
    }),
  /** Milliseconds, written as `10 s`, `5min`, `250`. */
  durationMs: (options: ParameterOptions<number> = {}): Parameter<number> =>
    parameter("duration", options, (text) => parseDurationMs(text, "it")),
  oneOf: <const V extends string>(values: readonly V[], options: ParameterOptions<V> = {}): Parameter<V> =>
    parameter(`one of ${values.join(", ")}`, options, (text) => {
      const found = values.find((value) => value === text);
      if (found !== undefined) return found;
      throw new Error(`is not one of ${values.join(", ")}${didYouMean(text, values)}`);
    }),
  /** One that may be left out without a default: undefined then. */
  optional: <T extends ParameterValue>(of: Parameter<T>): Parameter<T | undefined> => ({ ...of, isRequired: false }),
} as const;

export type ParameterDeclarations = Readonly<Record<string, Parameter<ParameterValue | undefined>>>;
/** The values of declared parameters, by name. */
export type ParameterValues<D extends ParameterDeclarations> = {
  readonly [N in keyof D]: D[N] extends Parameter<infer T> ? T : never;
};

/** JP1, JP2. Failure CONFIG_INVALID, also for `--help`: its message says how to call the job. */
export function parseParameters<D extends ParameterDeclarations>(
  declared: D,
  args: readonly string[],
): ParameterValues<D> {
  const names = Object.keys(declared);
  const refuse = (message: string): Failure =>
    new Failure("CONFIG_INVALID", { retry: "never", message, remedy: `its parameters are:\n${usage(declared)}` });
  const values: Record<string, ParameterValue | undefined> = {};
  for (let i = 0; i < args.length; i += 1) {
    const arg = args[i] as string;
    if (arg === "--help") throw refuse("this job was asked for its parameters");
    if (!arg.startsWith("--")) throw refuse(`the job takes no argument "${arg}": values stand behind --name`);
    const equals = arg.indexOf("=");
    const name = equals < 0 ? arg.slice(2) : arg.slice(2, equals);
    const of = Object.hasOwn(declared, name) ? declared[name] : undefined;
    if (of === undefined) throw refuse(`the job has no parameter --${name}${didYouMean(name, names)}`);
    if (Object.hasOwn(values, name)) throw refuse(`parameter --${name} was given twice`);
    const next = args[i + 1];
    const takesNext = equals < 0 && (of.type === "boolean" ? next === "true" || next === "false" : true);
    if (equals < 0 && takesNext && next === undefined) throw refuse(`parameter --${name} needs a value`);
    const text = equals >= 0 ? arg.slice(equals + 1) : takesNext ? (next as string) : "true";
    if (takesNext) i += 1;
    try {
      values[name] = of.parse(text);
    } catch (thrown) {
      throw refuse(`parameter --${name}: "${text}" ${(thrown as Error).message}`);
    }
  }
  for (const [name, of] of Object.entries(declared)) {
    if (Object.hasOwn(values, name)) continue;
    if (of.isRequired) throw refuse(`parameter --${name} is missing`);
    values[name] = of.default;
  }
  return values as ParameterValues<D>;
}

function usage(declared: ParameterDeclarations): string {
  const lines = Object.entries(declared).map(([name, of]): readonly [string, string] => {
    const fallback = of.default === undefined ? (of.isRequired ? "required" : "optional") : `default ${of.default}`;
    return [`--${name} (${of.type}, ${fallback})`, of.help];
  });
  const width = Math.max(0, ...lines.map(([left]) => left.length));
  return lines.map(([left, help]) => `  ${left.padEnd(width)}  ${help}`.trimEnd()).join("\n");
}
