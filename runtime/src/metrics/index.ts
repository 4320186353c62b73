// Public module of runtime/metrics: Prometheus pages, figures of the process, the HTTP shell of all processes.

export { heapFigures, observeProcess } from "./node-process.ts";
export { OperatorMetricRegistry } from "./operator-metrics.ts";
export { MetricsPage } from "./page.ts";
export type { Labels } from "./page.ts";
export { addProcessFigures, processMetricValues } from "./process-figures.ts";
export type { CollectionFigures, HeapFigures, ProcessFigures, ReadProcess } from "./process-figures.ts";
export { RateWindow } from "./rates.ts";
export { startHttpServer } from "./server.ts";
export type { HttpRequest, HttpResponse, HttpServer, HttpServerOptions } from "./server.ts";
