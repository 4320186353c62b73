// Counts page views per page. `npm start` runs it.

import {
  Encoders,
  FileSink,
  GeneratorSource,
  KeyedProcessFunction,
  Types,
  ValueStateDescriptor,
} from "@sluice/runtime";
import type {
  Collector,
  DataStream,
  KeyedContext,
  RuntimeContext,
  SingleOutputStreamOperator,
  StreamExecutionEnvironment,
  ValueState,
} from "@sluice/runtime";

export interface PageCount {
  page: string;
  views: number;
}

/** Runs once per page and view; the state it sees is that of the page. */
export class CountViews extends KeyedProcessFunction<string, string, PageCount> {
  #views!: ValueState<number>;

  override open(runtimeContext: RuntimeContext): void {
    this.#views = runtimeContext.getState(new ValueStateDescriptor("views", Types.LONG()));
  }

  override processElement(page: string, _ctx: KeyedContext<string>, out: Collector<PageCount>): void {
    const views = (this.#views.value() ?? 0) + 1;
    this.#views.update(views);
    out.collect({ page, views });
  }
}

/** What the job does between its source and its sink: tests bring their own. A uid is the name of state, for ever. */
export function countViews(pages: DataStream<string>): SingleOutputStreamOperator<PageCount> {
  return pages
    .keyBy((page) => page, Types.STRING())
    .process(() => new CountViews(), Types.ROW({ page: Types.STRING(), views: Types.LONG() }))
    .uid("count-views");
}

const PAGES = ["/", "/docs", "/download", "/blog"] as const;

export function main(env: StreamExecutionEnvironment): void {
  env.enableCheckpointing(500);
  const views = new GeneratorSource({
    count: 5_000,
    ratePerSecond: 1_000,
    generate: (i) => PAGES[(i % 7) % PAGES.length] ?? "/",
    type: Types.STRING(),
  });
  countViews(env.fromSource(views).uid("page-views"))
    .sinkTo(FileSink.forRowFormat("out", Encoders.ndjson()))
    .uid("out");
}
