// `sluice store`: looks after checkpoint stores, also of jobs that are dead. What it deletes was condemned by a commit record before.
//
// Invariants:
//   SC1. Nothing is changed without a word that says so: gc deletes only with --delete; close and purge name their job.
//   SC2. What the commands print is the same in text and in --json.
//
// Not here: what is garbage (runtime: checkpoint/survey.ts), snapshots from inside (snapshot commands).

import { Failure, formatBytes, formatDuration } from "@sluice/kit";
import type { StagedUploads } from "@sluice/kit/env";
import { NodeClock, nodeRng, NodeTimers } from "@sluice/kit/env/node";
import {
  closeJob,
  collectGarbage,
  inspectJob,
  jobDirectories,
  pinCheckpoint,
  purgeable,
  purgeJob,
  unpin,
} from "@sluice/runtime/internal/checkpoint";
import type {
  AdminPlace,
  GarbageOutcome,
  JobInspection,
  ObjectClass,
  SurveyedObject,
  SurveyedUpload,
} from "@sluice/runtime/internal/checkpoint";

import { openStoreAt, openUploadsAt, uriOf } from "./open-store.ts";

export interface StorePlace {
  /** URI or path: of a job's directory, or of one above it. */
  readonly place: string;
  /** Name of the job's directory, where there are several. */
  readonly job: string | undefined;
  readonly define: Readonly<Record<string, string>>;
  /** URIs of directories that file sinks of the job write to. */
  readonly outputs: readonly string[];
}

/** What a command found, as text for people and as JSON for programs. */
export interface StoreReport {
  readonly lines: readonly string[];
  readonly json: unknown;
}

/** Jobs at this place. Failure INPUT_NOT_FOUND when there is none, or none of that name. */
async function findPlaces(where: StorePlace): Promise<readonly AdminPlace[]> {
  const { place, job, define } = where;
  // A place that is a job's own directory: its parent is the store, so that paths in records fit.
  const uri = uriOf(place);
  const here = await openStoreAt(uri, define);
  const isJob = (await here.list("commits/")).some(({ path }) => /^commits\/\d{12}$/u.test(path));
  if (isJob) {
    // Records name paths from the root of the store the job was started with: {root}/{namespace}/{name}.
    const root = uri.split("/").slice(0, -2).join("/");
    const jobDir = uri.split("/").slice(-2).map(decodeURIComponent).join("/");
    return [adminPlace(await openStoreAt(root, define), jobDir, await openAllUploads(root, where))];
  }
  const { jobs } = jobDirectories(await here.list(""));
  const names = [...jobs.keys()].sort();
  const wanted = job === undefined ? names : names.filter((name) => name === job || name.endsWith(`/${job}`));
  if (wanted.length > 0) {
    const uploads = await openAllUploads(uri, where);
    return wanted.map((jobDir) => adminPlace(here, jobDir, uploads));
  }
  throw new Failure("INPUT_NOT_FOUND", {
    retry: "never",
    message: job === undefined ? `no job has its checkpoints at ${here.uri}` : `no job "${job}" at ${here.uri}`,
    remedy:
      names.length === 0
        ? "Name the place that sluice run printed (--dir, or .sluice/NAME/checkpoints), or a job's directory in it."
        : `There are: ${names.join(", ")}.`,
  });
}

type Uploads = Pick<AdminPlace, "uploads" | "outputs">;

/** Of the store itself, and of the sinks' directories. */
async function openAllUploads(uri: string, { define, outputs: named }: StorePlace): Promise<Uploads> {
  const outputs: StagedUploads[] = [];
  for (const output of named) {
    const opened = await openUploadsAt(output, define);
    if (opened === undefined) {
      throw new Failure("CONFIG_INVALID", {
        retry: "never",
        message: `--output ${output}: only s3:// has uploads that can be left unfinished, and staged objects`,
        remedy: "Leave it out: files in a directory are looked after by their sink.",
      });
    }
    outputs.push(opened);
  }
  const uploads = await openUploadsAt(uri, define);
  return { outputs, ...(uploads === undefined ? {} : { uploads }) };
}

function adminPlace(store: AdminPlace["store"], jobDir: string, uploads: Uploads): AdminPlace {
  const env = { clock: new NodeClock(), timers: new NodeTimers(), rng: nodeRng() };
  return { store, jobDir, env, signal: new AbortController().signal, ...uploads };
}

function uploadLine({ uploads, upload, class: found }: SurveyedUpload): string {
  if (upload.staged)
    return `  ${uploads.uri}/${upload.path} (staged and not published, of ${timeOf(upload.startedMs)}, ${found})`;
  return `  ${uploads.uri}/${upload.path} (unfinished upload ${upload.uploadId}, begun ${timeOf(upload.startedMs)}, ${found})`;
}

function uploadJson({ uploads, upload, class: found }: SurveyedUpload): unknown {
  return { store: uploads.uri, ...upload, class: found };
}

function unfinished(count: number): string {
  return count === 1 ? "1 unfinished upload" : `${count} unfinished uploads`;
}

/** SC1: the one job that is meant. */
async function onePlace(where: StorePlace, what: string): Promise<AdminPlace> {
  const places = await findPlaces(where);
  const [only] = places;
  if (only !== undefined && places.length === 1) return only;
  throw new Failure("CONFIG_INVALID", {
    retry: "never",
    message: `${what}: there are ${places.length} jobs at ${where.place}`,
    remedy: `Say which one with --job: ${places.map(({ jobDir }) => jobDir).join(", ")}.`,
  });
}

const CLASSES = {
  log: "commit records",
  live: "of checkpoints that are kept",
  condemned: "given up by the log",
  inFlight: "perhaps on their way",
  quarantined: "garbage, but too young to be sure",
  garbage: "garbage",
  foreign: "not written by Sluice: left alone",
} as const satisfies Record<ObjectClass, string>;

export async function inspectStore(
  where: StorePlace,
  options: { readonly quarantineMs: number; readonly showsObjects: boolean },
): Promise<StoreReport> {
  const lines: string[] = [];
  const json: unknown[] = [];
  for (const place of await findPlaces(where)) {
    const inspection = await inspectJob(place, options);
    lines.push(...inspectionLines(place, inspection, options.showsObjects));
    json.push(inspectionJson(place, inspection));
  }
  return { lines, json };
}

function inspectionLines(place: AdminPlace, inspection: JobInspection, showsObjects: boolean): readonly string[] {
  const { record, survey, recordCount, uploads } = inspection;
  const lines = [
    `${place.store.uri}/${place.jobDir}`,
    `  ${record.closed ? "closed, " : ""}${record.jobState}; epoch ${record.epoch}, lineage ${record.lineage}, identity ${record.uid}`,
    `  record ${record.seq} of ${new Date(record.writtenMs).toISOString()}, ${recordCount} records kept, ids given out up to ${record.idHigh}`,
  ];
  for (const { ref, reasons, content } of survey.kept) {
    const state = "unreadable" in content ? `UNREADABLE: ${content.unreadable}` : timeOf(content.timestampMs);
    lines.push(`  ${ref.kind} ${ref.id}: ${reasons.join(", ")}; ${state}; ${ref.path}`);
  }
  if (survey.kept.length === 0) lines.push("  no checkpoint is kept");
  for (const { id, request, outcome } of record.ops) {
    lines.push(`  operation ${id}: ${request.kind}, ${outcome === null ? "running" : outcome.type}`);
  }
  for (const [name, { count, sizeBytes }] of totals(survey.objects)) {
    lines.push(`  ${String(count).padStart(6)} objects, ${formatBytes(sizeBytes)}: ${CLASSES[name]}`);
  }
  for (const [found, group] of Map.groupBy(uploads, (upload) => upload.class))
    lines.push(`  ${String(group.length).padStart(6)} unfinished uploads: ${CLASSES[found]}`);
  if (survey.blockedBy !== undefined)
    lines.push(`  nothing will be deleted here: a checkpoint that is kept cannot be read: ${survey.blockedBy}`);
  if (showsObjects)
    lines.push(
      ...survey.objects.map((o) => `    ${o.class.padEnd(12)} ${o.path} (${formatBytes(o.sizeBytes)})`),
      ...uploads.map(uploadLine),
    );
  return lines;
}

function timeOf(wallMs: number): string {
  return new Date(wallMs).toISOString();
}

function totals(
  objects: readonly SurveyedObject[],
): ReadonlyMap<ObjectClass, { readonly count: number; readonly sizeBytes: number }> {
  const sums = new Map<ObjectClass, { count: number; sizeBytes: number }>();
  for (const { class: name, sizeBytes } of objects) {
    const sum = sums.get(name) ?? { count: 0, sizeBytes: 0 };
    sums.set(name, { count: sum.count + 1, sizeBytes: sum.sizeBytes + sizeBytes });
  }
  return sums;
}

function inspectionJson(place: AdminPlace, inspection: JobInspection): unknown {
  const { record, survey, recordCount } = inspection;
  return {
    store: place.store.uri,
    jobDir: place.jobDir,
    record,
    recordCount,
    kept: survey.kept.map(({ ref, reasons, content }) => ({
      ...ref,
      reasons,
      unreadable: "unreadable" in content ? content.unreadable : null,
    })),
    blockedBy: survey.blockedBy ?? null,
    objects: survey.objects,
    uploads: inspection.uploads.map(uploadJson),
  };
}

/** Lists garbage; with `deletes` deletes it. */
export async function collectStore(
  where: StorePlace,
  options: {
    readonly quarantineMs: number;
    readonly deletes: boolean;
    readonly onProgress: (text: string) => void;
  },
): Promise<StoreReport> {
  const { quarantineMs, deletes, onProgress } = options;
  const lines: string[] = [];
  const json: unknown[] = [];
  for (const place of await findPlaces(where)) {
    const outcome = await collectGarbage(place, {
      quarantineMs,
      deletes,
      onProgress: (done, of) => onProgress(`${place.jobDir}: ${done} of ${of} objects deleted`),
    });
    lines.push(...garbageLines(place, outcome, options));
    json.push({
      jobDir: place.jobDir,
      blockedBy: outcome.inspection.survey.blockedBy ?? null,
      garbage: outcome.victims,
      deletedCount: outcome.deletedCount,
      deletedBytes: outcome.deletedBytes,
      uploads: outcome.uploads.map(uploadJson),
      abortedCount: outcome.abortedCount,
    });
  }
  return { lines, json };
}

function garbageLines(
  place: AdminPlace,
  outcome: GarbageOutcome,
  options: { readonly quarantineMs: number; readonly deletes: boolean },
): readonly string[] {
  const { victims, inspection, uploads } = outcome;
  const { survey } = inspection;
  const name = `${place.store.uri}/${place.jobDir}`;
  if (survey.blockedBy !== undefined) {
    return [
      `${name}: nothing is deleted, because a checkpoint that is kept cannot be read: ${survey.blockedBy}`,
      "  What it needs cannot be known. Restore that object from a copy, or read it with the release that wrote it.",
    ];
  }
  const sizeBytes = victims.reduce((sum, object) => sum + object.sizeBytes, 0);
  const young = [...survey.objects, ...inspection.uploads].filter((found) => found.class === "quarantined").length;
  const quarantine = formatDuration(options.quarantineMs);
  const note = young === 0 ? "" : `; ${young} more are younger than ${quarantine} (--older-than) and stay`;
  if (victims.length === 0 && uploads.length === 0) return [`${name}: no garbage${note}`];
  const listed = [
    ...victims.map((object) => `  ${object.path} (${formatBytes(object.sizeBytes)}, ${object.class})`),
    ...uploads.map(uploadLine),
  ];
  const what = `${victims.length} objects, ${formatBytes(sizeBytes)}${uploads.length === 0 ? "" : `, and ${unfinished(uploads.length)}`}`;
  if (options.deletes) return [`${name}: deleted ${what}${note}`, ...listed];
  return [`${name}: ${what} would be deleted (give --delete)${note}`, ...listed];
}

export async function pinInStore(
  where: StorePlace,
  options: { readonly checkpointId: number | undefined; readonly holder: string; readonly forMs: number | undefined },
): Promise<StoreReport> {
  const place = await onePlace(where, "pin");
  const { checkpointId, holder, forMs } = options;
  const expiresAtMs = forMs === undefined ? null : Date.now() + forMs;
  const pin = await pinCheckpoint(place, { checkpointId, holder, expiresAtMs });
  const until = expiresAtMs === null ? "until it is taken back" : `until ${timeOf(expiresAtMs)}`;
  return {
    lines: [`${pin.ref.kind} ${pin.ref.id} of ${place.jobDir} is kept for "${holder}" ${until}: ${pin.ref.path}`],
    json: { jobDir: place.jobDir, pin },
  };
}

export async function unpinInStore(
  where: StorePlace,
  options: { readonly checkpointId: number | undefined; readonly holder: string },
): Promise<StoreReport> {
  const place = await onePlace(where, "unpin");
  const count = await unpin(place, options);
  return {
    lines: [
      count === 0
        ? `"${options.holder}" holds no pin on ${place.jobDir}`
        : `${count} pins of "${options.holder}" on ${place.jobDir} were taken back`,
    ],
    json: { jobDir: place.jobDir, count },
  };
}

export async function closeInStore(where: StorePlace): Promise<StoreReport> {
  const place = await onePlace(where, "close");
  const record = await closeJob(place);
  return {
    lines: [
      `${place.jobDir} is closed: nobody continues it, and whoever still runs it ends by itself. Its checkpoints are kept.`,
      record.head === null
        ? "It has no checkpoint."
        : `A new job can start from its newest: sluice run JOB --from ${place.store.uri}/${record.head.path}`,
    ],
    json: { jobDir: place.jobDir, record },
  };
}

export async function purgeInStore(
  where: StorePlace,
  options: { readonly onProgress: (text: string) => void; readonly isDryRun: boolean },
): Promise<StoreReport> {
  const place = await onePlace(where, "purge");
  if (options.isDryRun) {
    const { objects, uploads } = await purgeable(place);
    const bytes = formatBytes(objects.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0));
    return {
      lines: [
        `${place.jobDir}: ${objects.length} objects, ${bytes} and ${unfinished(uploads.length)} would be deleted`,
        ...objects.map((object) => `  ${object.path} (${formatBytes(object.sizeBytes)})`),
        ...uploads.map(uploadLine),
      ],
      json: { jobDir: place.jobDir, objects, uploads: uploads.map(uploadJson) },
    };
  }
  const { deletedCount, deletedBytes, abortedCount } = await purgeJob(place, {
    onProgress: (done, of) => options.onProgress(`${done} of ${of} objects deleted`),
  });
  return {
    lines: [
      `${place.jobDir} is purged: ${deletedCount} objects, ${formatBytes(deletedBytes)} deleted${abortedCount === 0 ? "" : `, ${unfinished(abortedCount)} aborted`}.`,
      "Its last commit record stays, so that the name does not start empty by accident; --new-lineage starts it anew.",
    ],
    json: { jobDir: place.jobDir, deletedCount, deletedBytes, abortedCount },
  };
}
