// The CustomResourceDefinition of StreamJob, as data.
//
// Not here: its fields and rules (stream-job.ts), writing it to crds/ and the chart (tools/generate).

import type { JsonSchema } from "../schema.ts";
import { STREAM_JOB_GROUP, STREAM_JOB_KIND, STREAM_JOB_PLURAL, STREAM_JOB_VERSION } from "./names.ts";

import { StreamJobSpec } from "./spec.ts";
import { StreamJob } from "./stream-job.ts";
import { StreamJobStatus } from "./status.ts";

interface PrinterColumn {
  readonly name: string;
  readonly type: "string" | "integer" | "date";
  readonly jsonPath: string;
  readonly description: string;
  /** 1: with `-o wide` only. */
  readonly priority?: 1;
}

const COLUMNS: readonly PrinterColumn[] = [
  { name: "State", type: "string", jsonPath: ".status.lifecycleState", description: "Where the job is." },
  {
    name: "Ready",
    type: "string",
    jsonPath: '.status.conditions[?(@.type=="Ready")].status',
    description: "Whether the job runs as wanted.",
  },
  {
    name: "TaskManagers",
    type: "string",
    jsonPath: ".status.taskManagers.summary",
    description: "Ready ones of those wanted.",
  },
  {
    name: "Last checkpoint",
    type: "date",
    jsonPath: ".status.lastCheckpoint.completedAt",
    description: "Time since the newest completed checkpoint.",
  },
  { name: "Restarts", type: "integer", jsonPath: ".status.restarts", description: "Of the job, over all attempts." },
  { name: "Age", type: "date", jsonPath: ".metadata.creationTimestamp", description: "Of the StreamJob." },
  {
    name: "Parallelism",
    type: "integer",
    jsonPath: ".status.deployed.parallelism",
    description: "Of what runs.",
    priority: 1,
  },
  { name: "Image", type: "string", jsonPath: ".status.deployed.image", description: "Of what runs.", priority: 1 },
  {
    name: "Message",
    type: "string",
    jsonPath: '.status.conditions[?(@.type=="Ready")].message',
    description: "What the job waits for, or what to do.",
    priority: 1,
  },
];

/** The CRD, ready for YAML; the same at every call. */
export function streamJobCrd(): Readonly<Record<string, unknown>> {
  return {
    apiVersion: "apiextensions.k8s.io/v1",
    kind: "CustomResourceDefinition",
    metadata: { name: `${STREAM_JOB_PLURAL}.${STREAM_JOB_GROUP}` },
    spec: {
      group: STREAM_JOB_GROUP,
      scope: "Namespaced",
      names: {
        kind: STREAM_JOB_KIND,
        listKind: `${STREAM_JOB_KIND}List`,
        plural: STREAM_JOB_PLURAL,
        singular: "streamjob",
        shortNames: ["sj"],
        categories: ["all", "sluice"],
      },
      versions: [
        {
          name: STREAM_JOB_VERSION,
          served: true,
          storage: true,
          subresources: { status: {} },
          additionalPrinterColumns: COLUMNS,
          schema: { openAPIV3Schema: rootSchema() },
        },
      ],
    },
  };
}

/** The apiserver owns apiVersion, kind and metadata: it refuses descriptions of them. */
function rootSchema(): unknown {
  return structural({
    type: "object",
    description: "A streaming job with Apache Flink's semantics.",
    required: ["spec"],
    properties: {
      apiVersion: { type: "string" },
      kind: { type: "string" },
      metadata: { type: "object" },
      spec: StreamJobSpec.json,
      status: StreamJobStatus.json,
    },
    "x-kubernetes-validations": StreamJob.json["x-kubernetes-validations"] ?? [],
  });
}

/** Kubernetes' "structural schema": it wants no empty `required`, and a type wherever values are not ints or texts. */
function structural(schema: JsonSchema): unknown {
  const { required, properties, items, additionalProperties, ...rest } = schema;
  return {
    ...rest,
    ...(required === undefined || required.length === 0 ? {} : { required }),
    ...(properties === undefined
      ? {}
      : {
          properties: Object.fromEntries(
            Object.entries(properties).map(([name, property]) => [name, structural(property)]),
          ),
        }),
    ...(items === undefined ? {} : { items: structural(items) }),
    ...(additionalProperties === undefined || additionalProperties === false
      ? {}
      : { additionalProperties: structural(additionalProperties) }),
  };
}
