// One state of every kind, twice: in the real backend and as plain data, with random operations that are done to both.
//
// Invariants:
//   TW1. The plain side is plain data (structuredClone is its snapshot), and knows nothing of tables, cuts or bytes.
//   TW2. What a read gives is compared at once. Values are changed in place between a read and the write that gives them back, as users
//        do: that must never reach a snapshot whose cut lies before.
//   TW3. A time to live counts as in Flink: expired when time + ttl is not after now; what has expired may be seen once more with
//        ReturnExpiredIfNotCleanedUp, and never otherwise.
//
// Not here: subtasks, snapshots, crashes (world.ts).

import { isDeepStrictEqual } from "node:util";

import type { Rng } from "@sluice/kit/env";

import type {
  AggregatingState,
  KeyedStateStore,
  ListState,
  MapState,
  ReducingState,
  StateTtlConfig,
  TypeInformation,
  ValueState,
} from "../../src/model/index.ts";
import {
  AggregatingStateDescriptor,
  ListStateDescriptor,
  MapStateDescriptor,
  ReducingStateDescriptor,
  Types,
  ValueStateDescriptor,
} from "../../src/model/index.ts";

/** A value and the time its life counts from. */
export interface Cell {
  value: unknown;
  timeMs: number;
}

/** What a key has in one state, as plain data (TW1): a cell, cells, or cells by the text of their map key. */
export type Plain = Cell | Cell[] | Map<string, Cell & { readonly key: unknown }>;

export interface Moment {
  readonly rng: Rng;
  readonly nowMs: number;
}

/** Thrown where the two sides differ. */
export class Mismatch extends Error {}

export function same(what: string, found: unknown, expected: unknown): void {
  if (isDeepStrictEqual(found, expected)) return;
  throw new Mismatch(`${what}: found ${shown(found)}, expected ${shown(expected)}`);
}

function shown(value: unknown): string {
  const text =
    JSON.stringify(value, (_key, inner: unknown) => (inner instanceof Map ? [...inner] : inner)) ?? "nothing";
  return text.length > 300 ? `${text.slice(0, 300)}...` : text;
}

/** Values of one type. Mutable ones can be changed in place. */
export interface Values {
  readonly type: TypeInformation<unknown>;
  readonly draw: (rng: Rng) => unknown;
  readonly change?: (value: unknown, rng: Rng) => void;
}

export const LONGS: Values = { type: Types.LONG(), draw: (rng) => rng.below(2 ** 40) - 2 ** 39 };
export const TEXTS: Values = {
  type: Types.STRING(),
  draw: (rng) => "é".repeat(rng.below(3)) + String(rng.below(1000)),
};
export const BOOLEANS: Values = { type: Types.BOOLEAN(), draw: (rng) => rng.chance(0.5) };
export const ROWS: Values = {
  type: Types.ROW({ a: Types.INT(), b: Types.LIST(Types.LONG()) }),
  draw: (rng) => ({ a: rng.below(100), b: [rng.below(100)] }),
  change: (value, rng) => {
    const row = value as { a: number; b: number[] };
    row.a += 1;
    row.b.push(rng.below(100));
  },
};

/** One state under test. `S` is its handle. */
export interface Twin<S> {
  readonly name: string;
  /** Changes with restarts only. */
  ttl: StateTtlConfig | undefined;
  declare(store: KeyedStateStore): S;
  /** One random operation under the current key; returns what the key has afterwards, undefined for nothing. */
  operate(state: S, plain: Plain | undefined, at: Moment): Plain | undefined;
  /** Compares everything the key has, changing nothing that could be seen. Only when nothing has expired. */
  compare(state: S, plain: Plain | undefined): void;
}

/** What is left of it at this time; undefined for nothing. */
export function alive(plain: Plain | undefined, ttl: StateTtlConfig | undefined, nowMs: number): Plain | undefined {
  if (plain === undefined || ttl === undefined) return plain;
  const lives = ({ timeMs }: Cell): boolean => timeMs + ttl.ttlMs > nowMs;
  if (Array.isArray(plain)) {
    const left = plain.filter(lives);
    return left.length === 0 ? undefined : left;
  }
  if (plain instanceof Map) {
    const left = new Map([...plain].filter(([, cell]) => lives(cell)));
    return left.size === 0 ? undefined : left;
  }
  return lives(plain) ? plain : undefined;
}

/** Rows that the plain content has in a snapshot's tables. */
export function rowsOf(plain: Plain): number {
  return plain instanceof Map ? plain.size : 1;
}

/** Every cell begins its life now. */
export function begin(plain: Plain, nowMs: number): void {
  const cells: Iterable<Cell> = Array.isArray(plain) ? plain : plain instanceof Map ? plain.values() : [plain];
  for (const cell of cells) cell.timeMs = nowMs;
}

function options(ttl: StateTtlConfig | undefined): { readonly ttl?: StateTtlConfig } {
  return ttl === undefined ? {} : { ttl };
}

abstract class TwinBase {
  readonly name: string;
  ttl: StateTtlConfig | undefined;

  constructor(name: string, ttl?: StateTtlConfig) {
    this.name = name;
    this.ttl = ttl;
  }

  protected isAlive({ timeMs }: Cell, nowMs: number): boolean {
    return this.ttl === undefined || timeMs + this.ttl.ttlMs > nowMs;
  }

  /** TW3: an expired value that was seen once more is gone afterwards. */
  protected mayBeSeen(): boolean {
    return this.ttl?.stateVisibility === "ReturnExpiredIfNotCleanedUp";
  }

  protected renewsOnRead(): boolean {
    return this.ttl?.updateType === "OnReadAndWrite";
  }

  /** Compares what was read from one cell; returns the cell afterwards. */
  protected readCell(found: unknown, cell: Cell | undefined, nowMs: number): Cell | undefined {
    if (cell !== undefined && !this.isAlive(cell, nowMs)) {
      if (found !== undefined && this.mayBeSeen()) same(`${this.name}, expired`, found, cell.value);
      else same(`${this.name}, expired`, found, undefined);
      return undefined;
    }
    same(this.name, found, cell?.value);
    if (cell !== undefined && this.renewsOnRead()) cell.timeMs = nowMs;
    return cell;
  }
}

export class ValueTwin extends TwinBase implements Twin<ValueState<unknown>> {
  readonly #values: Values;

  constructor(name: string, values: Values, ttl?: StateTtlConfig) {
    super(name, ttl);
    this.#values = values;
  }

  declare(store: KeyedStateStore): ValueState<unknown> {
    return store.getState(new ValueStateDescriptor(this.name, this.#values.type, options(this.ttl)));
  }

  operate(state: ValueState<unknown>, plain: Plain | undefined, { rng, nowMs }: Moment): Plain | undefined {
    const choice = rng.below(10);
    if (choice === 0) {
      state.clear();
      return undefined;
    }
    if (choice < 5) {
      const value = this.#values.draw(rng);
      state.update(structuredClone(value));
      return { value, timeMs: nowMs };
    }
    const found = state.value();
    const left = this.readCell(found, plain as Cell | undefined, nowMs);
    const { change } = this.#values;
    if (choice < 8 || change === undefined || left === undefined) return left;
    const before = structuredClone(left.value);
    change(found, rng); // TW2
    state.update(found);
    same(`${this.name}, changed in place`, left.value, before);
    return { value: structuredClone(found), timeMs: nowMs };
  }

  compare(state: ValueState<unknown>, plain: Plain | undefined): void {
    same(this.name, state.value(), (plain as Cell | undefined)?.value);
  }
}

export class ListTwin extends TwinBase implements Twin<ListState<unknown>> {
  readonly #values: Values;

  constructor(name: string, values: Values, ttl?: StateTtlConfig) {
    super(name, ttl);
    this.#values = values;
  }

  declare(store: KeyedStateStore): ListState<unknown> {
    return store.getListState(new ListStateDescriptor(this.name, this.#values.type, options(this.ttl)));
  }

  operate(state: ListState<unknown>, plain: Plain | undefined, { rng, nowMs }: Moment): Plain | undefined {
    const cells = (plain ?? []) as Cell[];
    const draw = (count: number): unknown[] => Array.from({ length: count }, () => this.#values.draw(rng));
    const cellsOf = (values: readonly unknown[]): Cell[] => values.map((value) => ({ value, timeMs: nowMs }));
    const choice = rng.below(20);
    if (choice < 6) {
      const [value] = draw(1);
      state.add(structuredClone(value));
      return [...cells, { value, timeMs: nowMs }];
    }
    if (choice < 9) {
      // Now and then a list that is captured in several rows.
      const values = draw(rng.chance(0.04) ? 2_500 : rng.below(5));
      state.addAll(structuredClone(values));
      return orNothing([...cells, ...cellsOf(values)]);
    }
    if (choice === 9) {
      state.clear();
      return undefined;
    }
    if (choice < 12) {
      const values = draw(rng.below(4));
      state.update(structuredClone(values));
      return orNothing(cellsOf(values));
    }
    const found = [...state.get()];
    const left = this.#read(found, cells, nowMs);
    const { change } = this.#values;
    if (choice < 16 || change === undefined || found.length !== left.length || found.length === 0)
      return orNothing(left);
    for (const element of found) if (rng.chance(0.3)) change(element, rng); // TW2
    state.update(found);
    return cellsOf(structuredClone(found));
  }

  #read(found: readonly unknown[], cells: readonly Cell[], nowMs: number): Cell[] {
    const left = cells.filter((cell) => this.isAlive(cell, nowMs));
    if (this.mayBeSeen() && found.length !== left.length) {
      // Only where the sweep was: what is seen are the living and some of the others, in order.
      let at = 0;
      for (const cell of cells) if (isDeepStrictEqual(found[at], cell.value)) at += 1;
      same(`${this.name}, expired elements`, at, found.length);
    } else {
      same(
        this.name,
        found,
        left.map(({ value }) => value),
      );
    }
    return this.renewsOnRead() ? left.map(({ value }) => ({ value, timeMs: nowMs })) : left;
  }

  compare(state: ListState<unknown>, plain: Plain | undefined): void {
    same(
      this.name,
      [...state.get()],
      ((plain ?? []) as Cell[]).map(({ value }) => value),
    );
  }
}

function orNothing(cells: Cell[]): Cell[] | undefined {
  return cells.length === 0 ? undefined : cells;
}

export class MapTwin extends TwinBase implements Twin<MapState<unknown, unknown>> {
  readonly #keys: Values;
  readonly #values: Values;

  constructor(name: string, types: { readonly keys: Values; readonly values: Values }, ttl?: StateTtlConfig) {
    super(name, ttl);
    this.#keys = types.keys;
    this.#values = types.values;
  }

  declare(store: KeyedStateStore): MapState<unknown, unknown> {
    const { type } = this.#keys;
    return store.getMapState(new MapStateDescriptor(this.name, type, this.#values.type, options(this.ttl)));
  }

  operate(state: MapState<unknown, unknown>, plain: Plain | undefined, { rng, nowMs }: Moment): Plain | undefined {
    const cells = (plain ?? new Map()) as Map<string, Cell & { readonly key: unknown }>;
    const draw = this.#keys;
    const key = cells.size > 0 && rng.chance(0.7) ? this.#anyOf(cells, rng) : draw.draw(rng);
    const put = (at: unknown, value: unknown): void => {
      state.put(structuredClone(at), structuredClone(value));
      cells.set(JSON.stringify(at), { key: at, value, timeMs: nowMs });
    };
    const choice = rng.below(20);
    if (choice < 7) put(key, this.#values.draw(rng));
    else if (choice < 9) {
      // Now and then a map that is captured in several portions.
      const count = rng.chance(0.15) ? 300 + rng.below(600) : rng.below(5);
      for (let i = 0; i < count; i += 1) put(draw.draw(rng), this.#values.draw(rng));
    } else if (choice < 12) {
      state.remove(structuredClone(key));
      cells.delete(JSON.stringify(key));
    } else if (choice === 12 && rng.chance(0.3)) {
      state.clear();
      cells.clear();
    } else if (choice === 13) {
      this.#readAll(state, cells, nowMs);
    } else if (choice === 14) {
      const isEmpty = state.isEmpty();
      const living = [...cells.values()].some((cell) => this.isAlive(cell, nowMs));
      if (living || !this.mayBeSeen()) same(`${this.name}, is empty`, isEmpty, !living);
    } else {
      const found = state.get(structuredClone(key));
      const left = this.readCell(found, cells.get(JSON.stringify(key)), nowMs);
      if (left === undefined) cells.delete(JSON.stringify(key));
      const { change } = this.#values;
      if (choice > 16 && change !== undefined && left !== undefined) {
        change(found, rng); // TW2
        state.put(key, found);
        cells.set(JSON.stringify(key), { key, value: structuredClone(found), timeMs: nowMs });
      }
    }
    return cells.size === 0 ? undefined : cells;
  }

  #anyOf(cells: ReadonlyMap<string, { readonly key: unknown }>, rng: Rng): unknown {
    let left = rng.below(cells.size);
    for (const { key } of cells.values()) {
      if (left === 0) return key;
      left -= 1;
    }
    return undefined;
  }

  /** Iterates, and takes some out on the way. */
  #readAll(
    state: MapState<unknown, unknown>,
    cells: Map<string, Cell & { readonly key: unknown }>,
    nowMs: number,
  ): void {
    const unseen = new Set(cells.keys());
    for (const [key, value] of state.entries()) {
      const text = JSON.stringify(key);
      const cell = cells.get(text);
      if (cell === undefined || !unseen.delete(text)) throw new Mismatch(`${this.name}: an entry too many: ${text}`);
      if (this.readCell(value, cell, nowMs) === undefined) cells.delete(text);
      if (text.length % 7 === 0) {
        state.remove(key);
        cells.delete(text);
      }
    }
    for (const text of unseen) {
      const cell = cells.get(text);
      if (cell !== undefined && this.isAlive(cell, nowMs)) throw new Mismatch(`${this.name}: not seen: ${text}`);
      cells.delete(text);
    }
  }

  compare(state: MapState<unknown, unknown>, plain: Plain | undefined): void {
    const cells = (plain ?? new Map()) as Map<string, Cell>;
    const found = new Map([...state.entries()].map(([key, value]) => [JSON.stringify(key), value]));
    same(this.name, found, new Map([...cells].map(([text, { value }]) => [text, value])));
  }
}

export class ReducingTwin extends TwinBase implements Twin<ReducingState<number>> {
  declare(store: KeyedStateStore): ReducingState<number> {
    const add = (a: number, b: number): number => a + b;
    return store.getReducingState(new ReducingStateDescriptor(this.name, add, Types.LONG(), options(this.ttl)));
  }

  operate(state: ReducingState<number>, plain: Plain | undefined, { rng, nowMs }: Moment): Plain | undefined {
    const cell = plain as Cell | undefined;
    const choice = rng.below(8);
    if (choice === 0) {
      state.clear();
      return undefined;
    }
    if (choice < 3) return this.readCell(state.get(), cell, nowMs);
    const value = rng.below(1_000);
    state.add(value);
    const before = cell !== undefined && this.isAlive(cell, nowMs) ? (cell.value as number) : 0;
    return { value: before + value, timeMs: nowMs };
  }

  compare(state: ReducingState<number>, plain: Plain | undefined): void {
    same(this.name, state.get(), (plain as Cell | undefined)?.value);
  }
}

/** Sum and count, in an accumulator that is changed in place. */
export class AggregatingTwin extends TwinBase implements Twin<AggregatingState<number, number[]>> {
  declare(store: KeyedStateStore): AggregatingState<number, number[]> {
    const aggregate = {
      createAccumulator: (): [number, number] => [0, 0],
      add: (value: number, accumulator: [number, number]): [number, number] => {
        accumulator[0] += value;
        accumulator[1] += 1;
        return accumulator;
      },
      getResult: (accumulator: [number, number]): number[] => [...accumulator],
      merge: (a: [number, number], b: [number, number]): [number, number] => [a[0] + b[0], a[1] + b[1]],
    };
    const type = Types.TUPLE(Types.LONG(), Types.LONG());
    return store.getAggregatingState(new AggregatingStateDescriptor(this.name, aggregate, type, options(this.ttl)));
  }

  operate(state: AggregatingState<number, number[]>, plain: Plain | undefined, at: Moment): Plain | undefined {
    const { rng, nowMs } = at;
    const cell = plain as Cell | undefined;
    const choice = rng.below(8);
    if (choice === 0) {
      state.clear();
      return undefined;
    }
    if (choice < 3) return this.readCell(state.get(), cell, nowMs);
    const value = rng.below(1_000);
    state.add(value);
    const [sum, count] = cell !== undefined && this.isAlive(cell, nowMs) ? (cell.value as [number, number]) : [0, 0];
    return { value: [sum + value, count + 1], timeMs: nowMs };
  }

  compare(state: AggregatingState<number, number[]>, plain: Plain | undefined): void {
    same(this.name, state.get(), (plain as Cell | undefined)?.value);
  }
}
