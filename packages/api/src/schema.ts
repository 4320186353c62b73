// Descriptions of JSON values: one description gives the TypeScript type, the JSON Schema of the OpenAPI document, and the check.
//
// Invariants:
//   SH1. A description is data: JSON Schema 2020-12, of which only what this file writes is used (check.ts reads exactly that).
//   SH2. `Message<typeof x>` is the type of what x accepts.
//
// Not here: checking values (schema-check.ts), the messages (rest/), the document (openapi.ts).

/** The keywords that are used. */
export interface JsonSchema {
  readonly type?: "object" | "array" | "string" | "number" | "integer" | "boolean" | "null";
  readonly description?: string;
  readonly properties?: Readonly<Record<string, JsonSchema>>;
  readonly required?: readonly string[];
  readonly additionalProperties?: JsonSchema | false;
  readonly items?: JsonSchema;
  readonly enum?: readonly string[];
  readonly const?: string;
  readonly pattern?: string;
  readonly anyOf?: readonly JsonSchema[];
  /** `#/components/schemas/NAME` */
  readonly $ref?: string;
}

declare const of: unique symbol;

export interface Schema<T> {
  readonly json: JsonSchema;
  /** Descriptions with a name that this one refers to, by name. */
  readonly named: ReadonlyMap<string, () => JsonSchema>;
  readonly [of]?: T;
}

export type Message<S> = S extends Schema<infer T> ? T : never;

type Fields = Readonly<Record<string, Schema<unknown>>>;
type Required<F extends Fields> = { readonly [K in keyof F]: Message<F[K]> };
type Optional<F extends Fields> = { readonly [K in keyof F]?: Message<F[K]> };
/** Shows an intersection as one object. */
type Flat<T> = { readonly [K in keyof T]: T[K] };

const NOTHING: ReadonlyMap<string, () => JsonSchema> = new Map();

function make<T>(json: JsonSchema, parts: readonly Schema<unknown>[] = []): Schema<T> {
  const named = parts.length === 0 ? NOTHING : new Map(parts.flatMap((part) => [...part.named]));
  return { json, named };
}

function described(json: JsonSchema, description: string | undefined): JsonSchema {
  return description === undefined ? json : { ...json, description };
}

export const text = (description?: string): Schema<string> => make(described({ type: "string" }, description));
export const number = (description?: string): Schema<number> => make(described({ type: "number" }, description));
export const integer = (description?: string): Schema<number> => make(described({ type: "integer" }, description));
export const flag = (description?: string): Schema<boolean> => make(described({ type: "boolean" }, description));
/** Any JSON value. */
export const anything = (description?: string): Schema<unknown> => make(described({}, description));
/** 32 hex digits. */
export const hexId = (description?: string): Schema<string> =>
  make(described({ type: "string", pattern: "^[0-9a-fA-F]{32}$" }, description));

export function oneOf<const T extends string>(values: readonly T[], description?: string): Schema<T> {
  return make(described({ type: "string", enum: values }, description));
}

export function literal<const T extends string>(value: T): Schema<T> {
  return make({ type: "string", const: value });
}

export function list<T>(item: Schema<T>, description?: string): Schema<readonly T[]> {
  return make(described({ type: "array", items: item.json }, description), [item]);
}

/** Keys are data. */
export function map<T>(value: Schema<T>, description?: string): Schema<Readonly<Record<string, T>>> {
  return make(described({ type: "object", additionalProperties: value.json }, description), [value]);
}

/** One value per key of `keys`. */
export function perKey<const K extends string, T>(
  keys: readonly K[],
  value: Schema<T>,
  description?: string,
): Schema<Readonly<Record<K, T>>> {
  const properties = Object.fromEntries(keys.map((key) => [key, value.json]));
  return make(described({ type: "object", properties, required: keys }, description), [value]);
}

export function object<R extends Fields, O extends Fields = Readonly<Record<never, never>>>(
  required: R,
  optional?: O,
): Schema<Flat<Required<R> & Optional<O>>> {
  const all: readonly (readonly [string, Schema<unknown>])[] = Object.entries({ ...required, ...optional });
  const properties = Object.fromEntries(all.map(([name, schema]) => [name, schema.json]));
  return make(
    { type: "object", properties, required: Object.keys(required) },
    all.map(([, schema]) => schema),
  );
}

export function anyOf<const S extends readonly Schema<unknown>[]>(...schemas: S): Schema<Message<S[number]>> {
  return make({ anyOf: schemas.map((schema) => schema.json) }, schemas);
}

export function nullable<T>(schema: Schema<T>): Schema<T | null> {
  return make({ anyOf: [schema.json, { type: "null" }] }, [schema]);
}

/** Gives a description a name in the document; others refer to it. */
export function named<T>(name: string, schema: Schema<T>): Schema<T> {
  return {
    json: { $ref: `#/components/schemas/${name}` },
    named: new Map([...schema.named, [name, () => schema.json]]),
  };
}

/** A named description that refers to itself. */
export function recursive<T>(name: string, describe: (self: Schema<T>) => Schema<T>): Schema<T> {
  const self = make<T>({ $ref: `#/components/schemas/${name}` });
  return named(name, describe(self));
}

/** All named descriptions that `schemas` refer to, by name. Two that are different under one name are a mistake. */
export function componentsOf(schemas: readonly Schema<unknown>[]): Readonly<Record<string, JsonSchema>> {
  const components: Record<string, JsonSchema> = {};
  for (const schema of schemas) for (const [name, json] of schema.named) components[name] = json();
  return components;
}
