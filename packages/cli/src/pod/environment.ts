// Where things are in a pod, and where it is reached. The environment says otherwise on a machine that is no pod (tests).
//
// Invariants:
//   PV1. Every path and address of a pod comes from here.
//
// Not here: what is to be done (pod.json).

import { POD_PATHS } from "@sluice/api";
import type { PodConfig } from "@sluice/api";

const RPC_PORT = 6123;
const REST_PORT = 8081;
const DATA_PORT = 6121;
const METRICS_PORT = 9249;

export interface PodEnvironment {
  /** Name of the pod: id of a TaskManager. Never used twice. */
  readonly name: string;
  /** By which other pods reach this one; undefined: the address that it listens on. */
  readonly ip: string | undefined;
  /** Of pod.json. */
  readonly configPath: string;
  /** Directory that sources are copied to. */
  readonly jobDir: string;
  /** Of local copies and scratch files. */
  readonly workDir: string;
  /** Of the PodReport. */
  readonly reportPath: string;
  readonly listen: {
    readonly rpc: string;
    readonly rest: string;
    readonly data: string;
    readonly metrics: string;
  };
  /** `host:port` of the JobManager of a job. */
  readonly jobManagerOf: (job: PodConfig["job"]) => string;
}

/** `configPath`: of the command line. */
export function podEnvironment(env: NodeJS.ProcessEnv, configPath: string | undefined): PodEnvironment {
  const ip = env["SLUICE_POD_IP"];
  const all = ip?.includes(":") === true ? "[::]" : "0.0.0.0"; // a pod of an IPv6 cluster has no other address
  const jobManager = env["SLUICE_POD_JOBMANAGER"];
  return {
    name: env["SLUICE_POD_NAME"] ?? env["HOSTNAME"] ?? "pod-0",
    ip,
    configPath: configPath ?? POD_PATHS.config,
    jobDir: env["SLUICE_POD_JOB_DIR"] ?? POD_PATHS.job,
    workDir: env["SLUICE_POD_WORK_DIR"] ?? POD_PATHS.work,
    reportPath: env["SLUICE_POD_REPORT"] ?? POD_PATHS.report,
    listen: {
      rpc: env["SLUICE_POD_RPC_ADDRESS"] ?? `${all}:${RPC_PORT}`,
      rest: env["SLUICE_POD_REST_ADDRESS"] ?? `${all}:${REST_PORT}`,
      data: env["SLUICE_POD_DATA_ADDRESS"] ?? `${all}:${DATA_PORT}`,
      metrics: env["SLUICE_POD_METRICS_ADDRESS"] ?? `${all}:${METRICS_PORT}`,
    },
    // The name of the Service: looked up at every attempt, in the pod's own namespace.
    jobManagerOf: ({ name }) => jobManager ?? `${name}-jobmanager:${RPC_PORT}`,
  };
}

/** `NAME-jm-ATTEMPT-3` is the fourth JobManager pod of its attempt. */
export function podOrdinal(name: string): number {
  return Number(/-jm-[0-9a-f]{10}-(\d{1,9})$/u.exec(name)?.[1] ?? 0);
}
