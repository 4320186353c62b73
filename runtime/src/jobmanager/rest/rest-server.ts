// REST and /metrics of a JobManager on one port.

import type { Log } from "@sluice/kit/env";
import { startHttpServer } from "../../metrics/index.ts";
import type { HttpServer, ReadProcess } from "../../metrics/index.ts";
import { jobManagerPage } from "../metrics/jobmanager-page.ts";
import { answer } from "./routes.ts";
import type { JobManagerView } from "./source.ts";

/** Starts listening. Rejects with Failure ADDRESS_IN_USE or CONFIG_INVALID. */
export function startRestServer(options: {
  /** `host:port`, port 0 for any free one. */
  readonly address: string;
  readonly view: JobManagerView;
  readonly readProcess: ReadProcess;
  readonly log: Log;
}): Promise<HttpServer> {
  const { address, view, readProcess, log } = options;
  return startHttpServer({
    address,
    log,
    metrics: () => jobManagerPage(view, readProcess()),
    answer: (request) => answer(request, view),
  });
}
