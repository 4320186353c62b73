// Descriptions of JSON values: one description gives the TypeScript type, the JSON Schema of the OpenAPI document and of the custom
// resource, and the check.
//
// Invariants:
//   SH1. A description is data: JSON Schema 2020-12 and Kubernetes' additions, of which only what this file writes is used.
//   SH2. `Message<typeof x>` is the type of what x accepts, once defaults are filled in (schema-defaults.ts).
//
// Not here: checking values (schema-check.ts; CEL rules are checked by the apiserver alone), the messages (rest/, streamjob/), the
// documents (openapi.ts, streamjob/crd.ts).

/** A rule in CEL over the value that carries it. Exactly one message each: what is wrong and what to do. */
export interface CelRule {
  readonly rule: string;
  readonly message: string;
  /** CEL that gives the message, when it is to name what it found; `message` stands in if it fails. */
  readonly messageExpression?: string;
}

/** Limits of one value. */
export interface Limits {
  readonly default?: unknown;
  readonly pattern?: string;
  readonly format?: "date-time" | "int64";
  readonly minLength?: number;
  readonly maxLength?: number;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly minItems?: number;
  readonly maxItems?: number;
  readonly maxProperties?: number;
  /** Null is a value too, and is kept. */
  readonly nullable?: true;
  readonly "x-kubernetes-validations"?: readonly CelRule[];
  /** Fields that are not described are kept. */
  readonly "x-kubernetes-preserve-unknown-fields"?: true;
  readonly "x-kubernetes-int-or-string"?: true;
  readonly "x-kubernetes-list-type"?: "map" | "set" | "atomic";
  readonly "x-kubernetes-list-map-keys"?: readonly string[];
}

/** The keywords that are used. */
export interface JsonSchema extends Limits {
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

/** The same with limits. */
export function limited<T>(schema: Schema<T>, limits: Limits): Schema<T> {
  return { json: { ...schema.json, ...limits }, named: schema.named };
}

/** The same with rules, after those it has. */
export function ruled<T>(schema: Schema<T>, ...rules: readonly CelRule[]): Schema<T> {
  const before = schema.json["x-kubernetes-validations"] ?? [];
  return limited(schema, { "x-kubernetes-validations": [...before, ...rules] });
}

/** The same with a description. */
export function explained<T>(description: string, schema: Schema<T>): Schema<T> {
  return { json: { ...schema.json, description }, named: schema.named };
}

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
/** An object whose fields somebody else describes. */
export function opaque<T>(description?: string): Schema<T> {
  return make(described({ type: "object", "x-kubernetes-preserve-unknown-fields": true }, description));
}
/** A number or a text, as Kubernetes writes quantities. */
export const intOrText = (description?: string): Schema<number | string> =>
  make(described({ "x-kubernetes-int-or-string": true }, description));
/** RFC 3339. */
export const time = (description?: string): Schema<string> =>
  make(described({ type: "string", format: "date-time" }, description));
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
  // A field with a default may be left out, and is there for who reads.
  const names = Object.keys(required).filter((name) => required[name]?.json.default === undefined);
  return make(
    { type: "object", properties, required: names },
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
