// PodConfig: what the controller tells the processes in a job's pods, in `pod.json`.
//
// Invariants:
//   PC1. Controller and image may be of different versions: a reader ignores fields that it does not know, and refuses a
//        `formatVersion` above its own. A field may be added; its absence means what was before it.
//   PC2. No secrets: those come by the environment.
//
// Not here: who makes it (controller/src/objects), who reads it (packages/cli/src/pod).

import { Failure } from "@sluice/kit";
import { anyOf, explained, flag, integer, limited, list, literal, map, object, oneOf, text } from "../schema.ts";
import { problemsOf } from "../schema-check.ts";
import type { Message, Schema } from "../schema.ts";

export const POD_CONFIG_FORMAT_VERSION = 1;

/** What whoever decided a start saw at the head of the commit log (runtime: JobManagerConfig.start.expectHead). */
export const ExpectedHead = object(
  {},
  {
    id: limited(integer("Of the newest checkpoint; null: there was none."), { minimum: 0, nullable: true }) as Schema<
      number | null
    >,
    path: text("Its directory or `_metadata`."),
  },
);
export type ExpectedHead = Message<typeof ExpectedHead>;

export const ON_FOREIGN_LOG = ["refuse", "resume", "newLineage"] as const;

/** What the JobManager does with what is there; the same for every start of its container. */
export const StartInstructions = object(
  {
    newLineage: flag("Begin without state, beside what is there."),
    mayCreate: flag("A missing commit log is created; otherwise it is a failure."),
    onForeignLog: oneOf(ON_FOREIGN_LOG, "What to do with the log of another StreamJob of this name."),
    pinRestored: flag("Keep what is restored until somebody takes the pin back."),
  },
  {
    from: text("A savepoint or checkpoint to begin a new lineage from."),
    expectHead: explained(
      "The head that was decided upon. Another one is refused: somebody has written meanwhile.",
      ExpectedHead,
    ),
    order: list(
      limited(integer(), { minimum: 0 }),
      "Counts up over the starts of one StreamJob, compared from the left: a start below the recorded one is fenced. The pod adds the number in its name.",
    ),
  },
);
export type StartInstructions = Message<typeof StartInstructions>;

/** Where the module lies in the pod, or is to be fetched from. */
export const PodJobSource = anyOf(
  object({ kind: literal("path"), path: text("In the image.") }),
  object({ kind: literal("inline"), path: text("The mounted file.") }),
  object({ kind: literal("configMap"), path: text("The mounted file; its siblings belong to it.") }),
  object({ kind: literal("uri"), url: text(), sha256: text("64 hex digits of its bytes.") }),
);
export type PodJobSource = Message<typeof PodJobSource>;

const bytes = (description: string): ReturnType<typeof integer> => limited(integer(description), { minimum: 1 });

/** Greatest JavaScript heaps, out of the containers' memory (the formula: controller/src/objects). */
export const PodMemory = object(
  {
    jobManagerHeapBytes: bytes("Of the JobManager's process."),
    planHeapBytes: bytes("Of the process that runs the user's `main`."),
    taskManagerHeapBytes: bytes("Of a TaskManager's main thread."),
    ioHeapBytes: bytes("Of a TaskManager's I/O thread."),
    slotHeapBytes: bytes("Of every slot."),
  },
  {
    jobManagerLimitBytes: bytes("Of the JobManager's container."),
    taskManagerLimitBytes: bytes("Of a TaskManager's container."),
  },
);
export type PodMemory = Message<typeof PodMemory>;

/** One for all pods of an attempt, whatever their role. */
export const PodConfig = object(
  {
    formatVersion: limited(integer(), { minimum: 1 }),
    job: object({ name: text(), namespace: text(), uid: text("Of the StreamJob.") }),
    attempt: limited(text("10 hex digits."), { pattern: "^[0-9a-f]{10}$" }),
    submission: limited(text("12 hex digits: the lineage that the JobManager would create."), {
      pattern: "^[0-9a-f]{12}$",
    }),
    image: text("Of the pods."),
    source: PodJobSource,
    arguments: list(text()),
    configuration: map(text(), "Flink's keys; typed fields are in it already."),
    store: object(
      {},
      { uri: text("checkpointing.dir; absent: no checkpoints."), endpoint: text("Of S3."), region: text() },
    ),
    start: StartInstructions,
    taskManagers: limited(integer("How many there are to be; 0 in preflight, which finds out."), { minimum: 0 }),
    slots: limited(integer("Per TaskManager."), { minimum: 1 }),
    memory: PodMemory,
  },
  {},
);
export type PodConfig = Message<typeof PodConfig>;

/** `pod.json`, for a ConfigMap. */
export function writePodConfig(config: PodConfig): string {
  return `${JSON.stringify(config, null, 2)}\n`;
}

/** Reads `pod.json`. Throws FORMAT_UNSUPPORTED for a newer format, CONFIG_INVALID for what is no PodConfig. */
export function readPodConfig(written: string): PodConfig {
  const value = parse(written);
  const version = (value as { readonly formatVersion?: unknown } | null | undefined)?.formatVersion;
  if (typeof version === "number" && version > POD_CONFIG_FORMAT_VERSION) {
    throw new Failure("FORMAT_UNSUPPORTED", {
      retry: "never",
      message: `pod.json has format version ${version}, this image reads up to ${POD_CONFIG_FORMAT_VERSION}`,
      remedy: "use an image (spec.image) as new as the controller",
    });
  }
  const problems = problemsOf(PodConfig, value, { allowsUnknownFields: true });
  if (problems.length === 0) return value as PodConfig;
  throw new Failure("CONFIG_INVALID", {
    retry: "never",
    message: `pod.json is not one: ${problems.slice(0, 3).join("; ")}`,
    remedy: "pod.json is made by the controller: use an image that fits its version",
  });
}

function parse(written: string): unknown {
  try {
    return JSON.parse(written);
  } catch {
    return undefined;
  }
}
