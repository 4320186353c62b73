// Public module of the peers: what tests and programs may use (as "@sluice/tools/peers").

import { flinkClient } from "./flink-client.ts";
import { minio } from "./minio.ts";
import type { Peer } from "./peer.ts";
import { promtool } from "./promtool.ts";

export type { CommandOutcome } from "./command.ts";
export { flinkClient, runFlink, runFlinkProgram } from "./flink-client.ts";
export type { FlinkRun } from "./flink-client.ts";
export { minio, startMinio } from "./minio.ts";
export type { MinioOptions, MinioServer } from "./minio.ts";
export { cacheFolder, findOnPath, peersRequired } from "./peer.ts";
export type { Peer, PeerState } from "./peer.ts";
export { checkMetrics, promtool } from "./promtool.ts";
export type { MetricsVerdict } from "./promtool.ts";

export const PEERS: readonly Peer[] = [minio, promtool, flinkClient];
