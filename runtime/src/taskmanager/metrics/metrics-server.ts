// /metrics of a TaskManager on a port of its own.

import type { Log } from "@sluice/kit/env";
import { startHttpServer } from "../../metrics/index.ts";
import type { HttpServer, ReadProcess } from "../../metrics/index.ts";
import { TaskManagerPages } from "./taskmanager-page.ts";
import type { TaskManagerMetricsView } from "./taskmanager-page.ts";

/** Starts listening. Rejects with Failure ADDRESS_IN_USE or CONFIG_INVALID. */
export function startMetricsServer(options: {
  /** `host:port`, port 0 for any free one. */
  readonly address: string;
  readonly view: TaskManagerMetricsView;
  readonly readProcess: ReadProcess;
  readonly token: string | undefined;
  readonly log: Log;
}): Promise<HttpServer> {
  const { address, view, readProcess, token, log } = options;
  const pages = new TaskManagerPages(view);
  return startHttpServer({ address, token, log, metrics: () => pages.page(readProcess()) });
}
