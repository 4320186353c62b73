// Public module of the peers: what tests and programs may use (as "@sluice/tools/peers").

import { flinkClient } from "./flink-client.ts";
import { helm } from "./helm.ts";
import { kubernetes } from "./kubernetes.ts";
import { minio } from "./minio.ts";
import type { Peer } from "./peer.ts";
import { promtool } from "./promtool.ts";

export { callApiServer } from "./api-call.ts";
export type { ApiAnswer, ApiCall } from "./api-call.ts";
export { startApiServer } from "./api-server.ts";
export type { ApiServer, ApiServerOptions } from "./api-server.ts";
export { runToEnd } from "./command.ts";
export type { CommandOutcome } from "./command.ts";
export { flinkClient, runFlink, runFlinkProgram } from "./flink-client.ts";
export type { FlinkRun } from "./flink-client.ts";
export { buildInPlace, buildWithGo, goBuildKey, whyNoGo } from "./go.ts";
export type { GoBuild } from "./go.ts";
export { HELM_VERSION, helm } from "./helm.ts";
export { KUBERNETES_COMPONENTS, KUBERNETES_VERSION, kubernetes, kubernetesFolder } from "./kubernetes.ts";
export { minio, startMinio } from "./minio.ts";
export type { MinioOptions, MinioServer } from "./minio.ts";
export { cacheFolder, findOnPath, isExecutable, makeInPlace, peersRequired } from "./peer.ts";
export type { Peer, PeerState } from "./peer.ts";
export { freePort } from "./process.ts";
export { checkMetrics, promtool } from "./promtool.ts";
export type { MetricsVerdict } from "./promtool.ts";

export const PEERS: readonly Peer[] = [minio, promtool, flinkClient, kubernetes, helm];
