// Orders are priced by another system without waiting for each answer (async I/O); what it does not know leaves by a side output.
//
//   npm run sluice -- run examples/enrichment.ts
//   npm run sluice -- run examples/enrichment.ts -- --orders 1000 --capacity 50

import { setTimeout as answer } from "node:timers/promises";

import {
  AsyncDataStream,
  AsyncFunction,
  AsyncRetryStrategies,
  OutputTag,
  Parameters,
  ProcessFunction,
  Types,
} from "@sluice/runtime";
import type {
  Collector,
  Counter,
  Histogram,
  RuntimeContext,
  SideOutputContext,
  StreamExecutionEnvironment,
} from "@sluice/runtime";

const PRICED = { id: Types.LONG(), item: Types.STRING(), price: Types.DOUBLE() };
interface Priced {
  id: number;
  item: string;
  /** -1: not known. */
  price: number;
}

/** Orders of items that nobody sells. */
const UNKNOWN = new OutputTag("unknown", Types.STRING());

const PRICES = new Map([
  ["apple", 0.3],
  ["pear", 0.4],
]);

class PriceLookup extends AsyncFunction<[number, string], Priced> {
  #waited!: Histogram;

  override open(context: RuntimeContext): void {
    this.#waited = context.getMetricGroup().histogram("priceLookupMs");
    // A secret is in no plan and no log; without one this price list answers as well.
    if (context.getEnvironment("PRICE_LIST_KEY") === undefined)
      context.getLogger().info("prices are asked for without a key");
  }

  /** As `fetch` of a price service would be. */
  override async asyncInvoke([id, item]: [number, string]): Promise<Priced> {
    const startedMs = performance.now();
    await answer(1 + (id % 5));
    this.#waited.update(performance.now() - startedMs);
    return { id, item, price: PRICES.get(item) ?? -1 };
  }
}

class Sort extends ProcessFunction<Priced, Priced> {
  #unknown!: Counter;

  override open(context: RuntimeContext): void {
    this.#unknown = context.getMetricGroup().counter("unknownItems");
  }

  override processElement(order: Priced, ctx: SideOutputContext, out: Collector<Priced>): void {
    if (order.price >= 0) out.collect(order);
    else {
      this.#unknown.inc();
      ctx.output(UNKNOWN, order.item);
    }
  }
}

export function main(env: StreamExecutionEnvironment): void {
  const { orders, capacity } = env.declareParameters({
    orders: Parameters.int({ default: 20, min: 0, help: "How many orders come in." }),
    capacity: Parameters.int({ default: 10, min: 1, help: "How many prices are asked for at once." }),
  });
  env.declareEnvironment("PRICE_LIST_KEY", { secret: true, optional: true });

  const items = ["apple", "pear", "unicorn"];
  const incoming = env
    .fromSequence(1, orders)
    .uid("orders")
    .map<[number, string]>((id) => [id, items[id % items.length] ?? ""], Types.TUPLE(Types.LONG(), Types.STRING()));

  const priced = AsyncDataStream.orderedWaitWithRetry(
    incoming,
    new PriceLookup(),
    5_000,
    capacity,
    AsyncRetryStrategies.exponentialBackoff({ maxAttempts: 3, initialDelayMs: 50, maxDelayMs: 1_000 }),
    Types.ROW(PRICED),
  )
    .name("prices")
    .uid("prices");

  const sorted = priced.process(new Sort(), Types.ROW(PRICED));
  sorted.map(({ id, item, price }) => `order ${id}: ${item} for ${price}`).print();
  sorted
    .getSideOutput(UNKNOWN)
    .map((item) => `nobody sells ${item}`)
    .print();
}
