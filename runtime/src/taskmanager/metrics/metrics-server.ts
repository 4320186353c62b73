// /metrics and /health of a TaskManager on a port of its own.

import { OPEN_PATHS, REST_ROUTES } from "@sluice/api";
import type { Log } from "@sluice/kit/env";
import { startHttpServer } from "../../metrics/index.ts";
import type { HttpServer, ReadProcess } from "../../metrics/index.ts";
import { TaskManagerPages } from "./taskmanager-page.ts";
import type { TaskManagerMetricsView } from "./taskmanager-page.ts";

/** Whether a TaskManager can be given work; `reason`: why not, for people. */
export interface TaskManagerHealth {
  readonly isReady: boolean;
  readonly reason: string;
}

/** Starts listening. Rejects with Failure ADDRESS_IN_USE or CONFIG_INVALID. */
export function startMetricsServer(options: {
  /** `host:port`, port 0 for any free one. */
  readonly address: string;
  readonly view: TaskManagerMetricsView;
  readonly readProcess: ReadProcess;
  /** Answered without a token. */
  readonly health: () => TaskManagerHealth;
  readonly token: string | undefined;
  readonly log: Log;
}): Promise<HttpServer> {
  const { address, view, readProcess, health, token, log } = options;
  const pages = new TaskManagerPages(view);
  return startHttpServer({
    address,
    token,
    openPaths: OPEN_PATHS,
    log,
    metrics: () => pages.page(readProcess()),
    answer: ({ method, path }) => {
      if (path !== REST_ROUTES.health.path || method !== "GET") return Promise.resolve(undefined);
      const { isReady, reason } = health();
      return Promise.resolve({
        status: isReady ? 200 : 503,
        body: isReady ? { status: "alive" } : { errors: [reason] },
      });
    },
  });
}
