// REST and /metrics of a JobManager on one port.

import { OPEN_PATHS, OPERATION_ID_HEADER } from "@sluice/api";
import type { Log } from "@sluice/kit/env";
import { startHttpServer } from "../../metrics/index.ts";
import type { HttpServer, ReadProcess } from "../../metrics/index.ts";
import { jobManagerPage } from "../metrics/jobmanager-page.ts";
import type { Awaited } from "./awaited.ts";
import { answer } from "./routes.ts";
import type { RestSource } from "./source.ts";

/** Starts listening. Rejects with Failure ADDRESS_IN_USE or CONFIG_INVALID. */
export function startRestServer(options: {
  /** `host:port`, port 0 for any free one. */
  readonly address: string;
  readonly source: RestSource;
  /** For scrapes of /metrics. */
  readonly readProcess: ReadProcess;
  /** undefined: everybody who reaches the address may do everything. */
  readonly token: string | undefined;
  /** Learns who waits for what. */
  readonly awaited: Awaited;
  readonly log: Log;
}): Promise<HttpServer> {
  const { address, source, readProcess, token, awaited, log } = options;
  return startHttpServer({
    address,
    log,
    token,
    openPaths: OPEN_PATHS.flatMap((path) => [path, `/v1${path}`]),
    metrics: () => jobManagerPage(source.view, readProcess()),
    answer: async ({ method, path, query, headers, body }) => {
      const operationId = headers[OPERATION_ID_HEADER];
      const response = await answer({ method, path, query, body, operationId }, source);
      awaited.answered(path, response);
      return response;
    },
  });
}
