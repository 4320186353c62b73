// Shapes of messages: says whether foreign JSON is what a message type promises, and where it is not.
//
// Invariants:
//   SH1. A shape never throws and never changes what it looks at.
//   SH2. `record` lists every field of its type, or it does not compile: a message cannot grow a field that nobody checks.
//
// Not here: the messages (to-jobmanager.ts, to-taskmanager.ts).

declare const shaped: unique symbol;

/** Describes values of type T. */
export interface Shape<T> {
  /** What is wrong with `value`, naming the place by `at`; undefined when it is a T. */
  readonly problem: (value: unknown, at: string) => string | undefined;
  readonly [shaped]?: T;
}

function shape<T>(problem: Shape<T>["problem"]): Shape<T> {
  return { problem };
}

/** The value as T, or what is wrong with it. */
export function parse<T>(expected: Shape<T>, value: unknown): { readonly ok: T } | { readonly problem: string } {
  const problem = expected.problem(value, "message");
  return problem === undefined ? { ok: value as T } : { problem };
}

const LONGEST_TEXT = 4 * 1024 * 1024;

export const text: Shape<string> = shape((value, at) =>
  typeof value === "string" && value.length <= LONGEST_TEXT ? undefined : `${at} is not a text`,
);
export const flag: Shape<boolean> = shape((value, at) =>
  typeof value === "boolean" ? undefined : `${at} is not a boolean`,
);
export const number: Shape<number> = shape((value, at) =>
  typeof value === "number" && Number.isFinite(value) ? undefined : `${at} is not a finite number`,
);
/** Anything that JSON can hold; whoever uses it checks. */
export const anything: Shape<unknown> = shape(() => undefined);

/** A safe integer, not negative; also for branded ids. */
export function count<T extends number = number>(): Shape<T> {
  return shape((value, at) =>
    Number.isSafeInteger(value) && (value as number) >= 0 ? undefined : `${at} is not a count`,
  );
}

export function oneOf<const T extends string>(...names: readonly T[]): Shape<T> {
  return shape((value, at) =>
    (names as readonly unknown[]).includes(value) ? undefined : `${at} is none of ${names.join(", ")}`,
  );
}

export function nullable<T>(inner: Shape<T>): Shape<T | null> {
  return shape((value, at) => (value === null ? undefined : inner.problem(value, at)));
}

export function optional<T>(inner: Shape<T>): Shape<T | undefined> {
  return shape((value, at) => (value === undefined ? undefined : inner.problem(value, at)));
}

export function list<T>(inner: Shape<T>): Shape<readonly T[]> {
  return shape((value, at) => {
    if (!Array.isArray(value)) return `${at} is not a list`;
    for (let i = 0; i < value.length; i += 1) {
      const problem = inner.problem(value[i], `${at}[${i}]`);
      if (problem !== undefined) return problem;
    }
    return undefined;
  });
}

/** A pair of values of one type. */
export function pair<T>(inner: Shape<T>): Shape<readonly [T, T]> {
  return shape((value, at) =>
    Array.isArray(value) && value.length === 2
      ? (inner.problem(value[0], `${at}[0]`) ?? inner.problem(value[1], `${at}[1]`))
      : `${at} is not a pair`,
  );
}

/** One shape per field of T. */
export type Fields<T> = { readonly [K in keyof Required<T>]: Shape<T[K]> };

/** An object with these fields (SH2). Unknown fields are allowed: a newer peer may add some. */
export function record<T extends object>(fields: Fields<T>): Shape<T> {
  const entries = Object.entries(fields) as readonly (readonly [string, Shape<unknown>])[];
  return shape((value, at) => {
    if (!isObject(value)) return `${at} is not an object`;
    for (const [name, field] of entries) {
      const problem = field.problem(value[name], `${at}.${name}`);
      if (problem !== undefined) return problem;
    }
    return undefined;
  });
}

/** A union told apart by its `type`. */
export function variants<T extends { readonly type: string }>(cases: {
  readonly [K in T["type"]]: Shape<Extract<T, { readonly type: K }>>;
}): Shape<T> {
  const byType = new Map(Object.entries(cases)) as ReadonlyMap<string, Shape<unknown>>;
  return shape((value, at) => {
    if (!isObject(value)) return `${at} is not an object`;
    const type = value["type"];
    const found = typeof type === "string" ? byType.get(type) : undefined;
    return found === undefined ? `${at}.type is none of ${[...byType.keys()].join(", ")}` : found.problem(value, at);
  });
}

/** The `type` field of a variant. */
export function type<const T extends string>(name: T): Shape<T> {
  return oneOf(name);
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
