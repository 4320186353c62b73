// Operator state of a user function on the heap: lists, union lists, broadcast maps, with elements of declared types.
//
// Invariants (tests cite them):
//   OB1. A snapshot holds what the handles held at that moment, encoded: what the function changes later is not in it.
//   OB2. A restored state that the function does not ask for is kept as it is and stored again (Flink does the same): code may leave
//        a state out and take it up later.
//   OB3. Elements are of the declared type when they enter and when they come back: stored ones of an older type become what
//        evolution (state/evolution.ts) makes of them, or there is a failure.
//
// Not here: which subtask gets what (checkpoint/deal.ts), JSON state of sources and sinks (connectors/json-state.ts).

import { ByteReader, Failure } from "@sluice/kit";
import {
  containsGeneric,
  describeType,
  sameType,
  type BroadcastState,
  type ListState,
  type ListStateDescriptor,
  type MapStateDescriptor,
  type OperatorState,
  type OperatorStateContent,
  type OperatorStateItem,
  type OperatorStateMode,
  type OperatorStateStore,
  type RestoredOperatorState,
  type StateSchema,
  type SubtaskInfo,
  type TypeDescriptor,
} from "../model/index.ts";
import {
  codecFor,
  compareTypes,
  encodeValue,
  evolvingReader,
  incompatibleState,
  type ValueCodec,
} from "../state/index.ts";

const CALL = {
  split: "getListState",
  union: "getUnionListState",
  broadcast: "getBroadcastState",
} as const satisfies Record<OperatorStateMode, string>;

interface Registered {
  readonly mode: OperatorStateMode;
  readonly type: TypeDescriptor;
  readonly handle: OperatorListState | OperatorBroadcastState;
}

export class HeapOperatorStateStore implements OperatorStateStore {
  readonly #subtask: SubtaskInfo;
  readonly #registered = new Map<string, Registered>();
  /** OB2. */
  readonly #unclaimed: Map<string, OperatorStateContent>;

  constructor(options: { readonly subtask: SubtaskInfo; readonly restored: RestoredOperatorState | undefined }) {
    this.#subtask = options.subtask;
    this.#unclaimed = new Map(options.restored?.states);
  }

  getListState<T>(descriptor: ListStateDescriptor<T>): ListState<T> {
    return this.#list(descriptor, "split") as ListState<unknown> as ListState<T>;
  }

  getUnionListState<T>(descriptor: ListStateDescriptor<T>): ListState<T> {
    return this.#list(descriptor, "union") as ListState<unknown> as ListState<T>;
  }

  getBroadcastState<K, V>(descriptor: MapStateDescriptor<K, V>): BroadcastState<K, V> {
    const { name, keyType, valueType } = descriptor;
    const type: TypeDescriptor = { kind: "TUPLE", fields: [keyType.descriptor, valueType.descriptor] };
    const handle = this.#claim(descriptor, "broadcast", type, (codec, elements) => {
      const key = codecFor(keyType.descriptor);
      const state = new OperatorBroadcastState(codec, key, (reason) => this.#mismatch(name, reason));
      for (const element of elements) state.put(...(element as [unknown, unknown]));
      return state;
    });
    return handle as BroadcastState<unknown, unknown> as BroadcastState<K, V>;
  }

  /** OB1. */
  snapshot(): OperatorState {
    const states = new Map<string, OperatorStateContent>(this.#unclaimed);
    for (const [name, { mode, type, handle }] of this.#registered)
      states.set(name, { mode, itemType: type, items: handle.encode() });
    return states;
  }

  /** What was asked for so far. */
  declaredStates(): readonly StateSchema[] {
    return [...this.#registered].map(([name, { mode, type }]) => {
      return { name, kind: "operator-list", mode, itemType: type };
    });
  }

  #list<T>(descriptor: ListStateDescriptor<T>, mode: "split" | "union"): OperatorListState {
    const { name, elementType } = descriptor;
    const handle = this.#claim(descriptor, mode, elementType.descriptor, (codec, elements) => {
      const state = new OperatorListState(codec, (reason) => this.#mismatch(name, reason));
      state.addAll(elements);
      return state;
    });
    return handle as OperatorListState;
  }

  #claim(
    descriptor: { readonly name: string; readonly ttl: unknown },
    mode: OperatorStateMode,
    type: TypeDescriptor,
    make: (codec: ValueCodec, elements: readonly unknown[]) => Registered["handle"],
  ): Registered["handle"] {
    const { name } = descriptor;
    const known = this.#registered.get(name);
    if (known !== undefined) {
      if (known.mode === mode && sameType(known.type, type)) return known.handle;
      throw this.#invalid(
        `asked for operator state "${name}" by ${CALL[mode]} as ${describeType(type)}, and before by ${CALL[known.mode]} as ${describeType(known.type)}`,
        "give every state its own name",
      );
    }
    if (descriptor.ttl !== undefined)
      throw this.#invalid(`operator state "${name}" has a time to live`, "use keyed state: only that expires");
    if (containsGeneric(type)) {
      throw this.#invalid(
        `operator state "${name}" is declared as ${describeType(type)}`,
        "declare a type without GENERIC: state outlives the code that wrote it",
      );
    }
    const codec = codecFor(type);
    const stored = this.#unclaimed.get(name);
    const handle = make(codec, stored === undefined ? [] : this.#decode(name, stored, mode, codec));
    this.#unclaimed.delete(name);
    this.#registered.set(name, { mode, type, handle });
    return handle;
  }

  #decode(name: string, stored: OperatorStateContent, mode: OperatorStateMode, codec: ValueCodec): readonly unknown[] {
    if (stored.mode !== mode) {
      throw this.#incompatible(
        `operator state "${name}" was stored by ${CALL[stored.mode]}, the job asks for it by ${CALL[mode]}`,
      );
    }
    if (stored.items.length === 0) return [];
    const { itemType } = stored;
    if (itemType === undefined) {
      throw this.#incompatible(
        `operator state "${name}" was stored as data of its own, the job declares ${describeType(codec.type)}`,
      );
    }
    const where = `operator "${this.#subtask.operatorName}" (uid ${this.#subtask.uid}), operator state "${name}"`;
    const types = { stored: asDeclared(mode, itemType), declared: asDeclared(mode, codec.type) };
    if (compareTypes(types.stored, types.declared).type === "incompatible") throw incompatibleState(where, types);
    const read = evolvingReader(itemType, codec.type);
    return stored.items.map((item) => {
      const bytes = "bytes" in item ? item.bytes : new Uint8Array();
      const from = new ByteReader(bytes, { what: where, code: "SNAPSHOT_DAMAGED" });
      const value = read(from);
      from.expectEnd();
      return value;
    });
  }

  #mismatch(name: string, reason: string): Failure {
    return new Failure("TYPE_MISMATCH", {
      retry: "never",
      message: `operator state "${name}": ${reason}`,
      remedy: "store values of the type that its descriptor declares",
    });
  }

  #invalid(what: string, remedy: string): Failure {
    const { operatorName, uid } = this.#subtask;
    const message = `operator "${operatorName}" (uid ${uid}) ${what}`;
    return new Failure("STATE_ACCESS_INVALID", { retry: "never", message, remedy });
  }

  #incompatible(what: string): Failure {
    return new Failure("STATE_INCOMPATIBLE", {
      retry: "never",
      message: `operator "${this.#subtask.operatorName}" (uid ${this.#subtask.uid}): ${what}`,
      remedy: "declare it as it was, or give the new state another name",
    });
  }
}

/** As the user wrote it: items of broadcast state are the entries of a map, whose keys never change their type. */
function asDeclared(mode: OperatorStateMode, itemType: TypeDescriptor): TypeDescriptor {
  if (mode !== "broadcast" || itemType.kind !== "TUPLE") return itemType;
  const [key, value] = itemType.fields;
  return key === undefined || value === undefined ? itemType : { kind: "MAP", key, value };
}

/** OB3. */
function checked(codec: ValueCodec, value: unknown, mismatch: (reason: string) => Failure): unknown {
  const reason = codec.check(value);
  if (reason !== undefined) throw mismatch(reason);
  return value;
}

class OperatorListState implements ListState<unknown> {
  readonly #codec: ValueCodec;
  readonly #mismatch: (reason: string) => Failure;
  #values: unknown[] = [];

  constructor(codec: ValueCodec, mismatch: (reason: string) => Failure) {
    this.#codec = codec;
    this.#mismatch = mismatch;
  }

  get(): Iterable<unknown> {
    return this.#values;
  }

  add(value: unknown): void {
    this.#values.push(checked(this.#codec, value, this.#mismatch));
  }

  addAll(values: Iterable<unknown>): void {
    // All or none, and `values` may be what `get` gave.
    for (const value of Array.from(values, (one) => checked(this.#codec, one, this.#mismatch)))
      this.#values.push(value);
  }

  update(values: Iterable<unknown>): void {
    this.#values = Array.from(values, (value) => checked(this.#codec, value, this.#mismatch));
  }

  clear(): void {
    this.#values = [];
  }

  encode(): readonly OperatorStateItem[] {
    return this.#values.map((value) => ({ bytes: encodeValue(this.#codec, value) }));
  }
}

class OperatorBroadcastState implements BroadcastState<unknown, unknown> {
  readonly #codec: ValueCodec;
  readonly #key: ValueCodec;
  readonly #mismatch: (reason: string) => Failure;
  /** By the encoded key where equal keys are not the same value for a Map. */
  readonly #entries = new Map<unknown, readonly [key: unknown, value: unknown]>();

  constructor(codec: ValueCodec, key: ValueCodec, mismatch: (reason: string) => Failure) {
    this.#codec = codec;
    this.#key = key;
    this.#mismatch = mismatch;
  }

  get(key: unknown): unknown {
    return this.#entries.get(this.#identity(key))?.[1];
  }

  put(key: unknown, value: unknown): void {
    const entry = [key, value] as const;
    checked(this.#codec, entry, this.#mismatch);
    this.#entries.set(this.#identity(key), entry);
  }

  putAll(entries: Iterable<readonly [unknown, unknown]>): void {
    for (const [key, value] of entries) this.put(key, value);
  }

  remove(key: unknown): void {
    this.#entries.delete(this.#identity(key));
  }

  contains(key: unknown): boolean {
    return this.#entries.has(this.#identity(key));
  }

  entries(): Iterable<readonly [unknown, unknown]> {
    return this.#entries.values();
  }

  immutableEntries(): Iterable<readonly [unknown, unknown]> {
    return this.#entries.values();
  }

  keys(): Iterable<unknown> {
    return Array.from(this.#entries.values(), ([key]) => key);
  }

  values(): Iterable<unknown> {
    return Array.from(this.#entries.values(), ([, value]) => value);
  }

  isEmpty(): boolean {
    return this.#entries.size === 0;
  }

  clear(): void {
    this.#entries.clear();
  }

  encode(): readonly OperatorStateItem[] {
    return Array.from(this.#entries.values(), (entry) => ({ bytes: encodeValue(this.#codec, entry) }));
  }

  #identity(key: unknown): unknown {
    if (typeof key !== "object") return key;
    checked(this.#key, key, this.#mismatch);
    return Buffer.from(encodeValue(this.#key, key)).toString("latin1");
  }
}
