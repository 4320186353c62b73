// Uploads in parts that were begun and that nobody will complete: of checkpoint writers and of file sinks on S3. They are invisible, and
// cost space until the store's own rule deletes them. And what file sinks have staged under hidden names and nobody will publish, which no
// rule deletes.
//
// Invariants (tests cite them):
//   IU1. Of the checkpoint store an upload is what an object of its name would be (survey.ts): what is foreign, young, or perhaps on its
//        way stays. Beside an object that is kept it is a repetition that nobody needs.
//   IU2. Of a sink's output only uploads and staged objects of this log's lineages are touched, and only of a closed job: before that, state
//        that somebody restores may still publish them. What was published has another name, and is never touched.
//
// Not here: the calls (kit/env/uploads.ts), when this is asked for (store-admin.ts).

import type { IncompleteUpload, StagedUploads } from "@sluice/kit/env";
import { retryStorage } from "./storage-retry.ts";
import type { CommitLogEnv } from "./commit-log.ts";
import type { ObjectClass, SurveyedObject } from "./survey.ts";
import type { CommitRecord } from "./types.ts";

/** How the hidden names of a sink's objects begin (connectors/object-files.ts). */
const STAGED = ".staged-part-";

/** An upload or a staged object, where it is on its way to, and what it is. */
export interface SurveyedUpload {
  readonly uploads: StagedUploads;
  readonly upload: LeftUpload;
  readonly class: Extract<ObjectClass, "inFlight" | "quarantined" | "garbage">;
}

/** `staged`: a whole object under a hidden name; its uploadId is empty. */
export interface LeftUpload extends IncompleteUpload {
  readonly staged?: true;
}

interface Options {
  readonly record: CommitRecord;
  readonly quarantineMs: number;
  readonly wallMs: number;
}

/** IU1. `classified`: what objects of the uploads' names would be, in the same order. */
export function ownUploads(
  uploads: StagedUploads,
  listed: readonly IncompleteUpload[],
  classified: readonly Pick<SurveyedObject, "class">[],
  options: Options,
): readonly SurveyedUpload[] {
  return listed.flatMap((upload, i): readonly SurveyedUpload[] => {
    const found = classified[i]?.class ?? "foreign";
    if (found === "foreign" || found === "log") return [];
    if (found === "inFlight") return [{ uploads, upload, class: found }];
    return [{ uploads, upload, class: isYoung(upload, options) ? "quarantined" : "garbage" }];
  });
}

/** IU2. */
export function outputUploads(
  uploads: StagedUploads,
  listed: readonly LeftUpload[],
  options: Options,
): readonly SurveyedUpload[] {
  const { record } = options;
  const lineages = new Set([record.lineage, ...(record.pastLineages ?? [])]);
  return listed
    .filter(({ path }) => lineages.has(lineageOfOutput(path) ?? ""))
    .map((upload) => {
      if (!record.closed) return { uploads, upload, class: "inFlight" };
      return { uploads, upload, class: isYoung(upload, options) ? "quarantined" : "garbage" };
    });
}

function isYoung({ startedMs }: IncompleteUpload, { quarantineMs, wallMs }: Options): boolean {
  return startedMs > wallMs - quarantineMs;
}

/** The lineage in the name of a sink's object (connectors/object-files.ts); undefined for any other name. */
export function lineageOfOutput(path: string): string | undefined {
  const match = /^(?:.*\/)?(?:\.staged-)?part-([^-/]+)-[^/]+-\d+-\d+\.\d+-\d+(?:\.[A-Za-z]\w*)*$/u.exec(path);
  if (match?.[1] === undefined) return undefined;
  try {
    return decodeURIComponent(match[1].replaceAll("~", "%"));
  } catch {
    return undefined;
  }
}

/** What file sinks have staged in a directory, of any job. */
export async function listStaged(
  uploads: StagedUploads,
  { env, signal }: { readonly env: CommitLogEnv; readonly signal: AbortSignal },
): Promise<readonly LeftUpload[]> {
  const listed = await retryStorage(env, signal, "staged-list", () => uploads.listObjects(STAGED, signal));
  return listed.map(({ path, modifiedMs }) => ({ path, uploadId: "", startedMs: modifiedMs, staged: true }));
}

/** Aborts the upload, or deletes the staged object. */
export function discardUpload({ uploads, upload }: SurveyedUpload, signal: AbortSignal): Promise<void> {
  return upload.staged ? uploads.remove(upload.path, signal) : uploads.abort(upload, signal);
}

/** All that the store lists below a path. */
export function listUploads(
  uploads: StagedUploads,
  prefix: string,
  { env, signal }: { readonly env: CommitLogEnv; readonly signal: AbortSignal },
): Promise<readonly IncompleteUpload[]> {
  return retryStorage(env, signal, "uploads-list", () => uploads.list(prefix, signal));
}
