// Visits of a site: which pages somebody looked at before going away. A visit ends when nothing came for a while, so it is a timer that
// tells, not a record.
//
//   npm run sluice -- run examples/sessions.ts
//   npm run sluice -- run examples/sessions.ts -- 300 500     300 clicks a second, a visit ends after 500 ms of silence
//
// Pages and clicks are in a MapState, the end of the visit is a processing-time timer; both are in every checkpoint. Visits that have
// not ended when the input does are not printed: timers do not fire after the last record.

import {
  GeneratorSource,
  KeyedProcessFunction,
  MapStateDescriptor,
  Types,
  ValueStateDescriptor,
} from "@sluice/runtime";
import type {
  Collector,
  KeyedContext,
  MapState,
  OnTimerContext,
  RuntimeContext,
  StreamExecutionEnvironment,
  ValueState,
} from "@sluice/runtime";

const CLICKS_PER_VISITOR = 40;
const PAGES = ["home", "search", "product", "basket"];

interface Click {
  visitor: string;
  page: string;
}

class VisitFunction extends KeyedProcessFunction<string, Click, string> {
  readonly #silenceMs: number;
  #clicks!: MapState<string, number>;
  #endsAt!: ValueState<number>;

  constructor(silenceMs: number) {
    super();
    this.#silenceMs = silenceMs;
  }

  override open(runtimeContext: RuntimeContext): void {
    this.#clicks = runtimeContext.getMapState(new MapStateDescriptor("clicks", Types.STRING(), Types.INT()));
    this.#endsAt = runtimeContext.getState(new ValueStateDescriptor("ends-at", Types.INSTANT()));
  }

  override processElement({ page }: Click, ctx: KeyedContext<string>): void {
    this.#clicks.put(page, (this.#clicks.get(page) ?? 0) + 1);
    const timers = ctx.timerService();
    const before = this.#endsAt.value();
    if (before !== undefined) timers.deleteProcessingTimeTimer(before);
    const endsAt = timers.currentProcessingTime() + this.#silenceMs;
    timers.registerProcessingTimeTimer(endsAt);
    this.#endsAt.update(endsAt);
  }

  override onTimer(_timestampMs: number, ctx: OnTimerContext<string>, out: Collector<string>): void {
    const pages = [...this.#clicks.entries()].map(([page, clicks]) => `${page} ${clicks}`);
    out.collect(`${ctx.getCurrentKey()}: ${pages.join(", ")}`);
    this.#clicks.clear();
    this.#endsAt.clear();
  }
}

export function main(env: StreamExecutionEnvironment, args: readonly string[]): void {
  const [clicksPerSecond = 200, silenceMs = 300] = args.map(Number);
  const visitorOf = (i: number): string => `visitor-${Math.floor(i / CLICKS_PER_VISITOR)}`;
  env
    .fromSource(
      new GeneratorSource<Click>({
        count: 15 * CLICKS_PER_VISITOR,
        ratePerSecond: clicksPerSecond,
        generate: (i) => ({ visitor: visitorOf(i), page: PAGES[i % PAGES.length] ?? "home" }),
        type: Types.ROW({ visitor: Types.STRING(), page: Types.STRING() }),
      }),
      "clicks",
    )
    .uid("clicks")
    .keyBy(({ visitor }) => visitor, Types.STRING())
    .process(() => new VisitFunction(silenceMs), Types.STRING())
    .name("visits")
    .uid("visits")
    .print();
}
