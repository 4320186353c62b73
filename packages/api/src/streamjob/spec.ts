// What a user wants of a job: `spec` of a StreamJob, and the rules over several of its fields.
//
// Invariants:
//   SJ1. A rule reads fields that may be absent only behind has(): the apiserver fails the rule otherwise, with its own words.
//   SJ2. Rules that compare with the old object allow what was already there, so that a stored object can always be written again.
//
// Not here: the fields (spec-fields.ts), rules that see more than the spec (stream-job.ts).

import { explained, object, ruled } from "../schema.ts";
import type { Message } from "../schema.ts";
import { SPEC_FIELDS } from "./spec-fields.ts";

/** `spec`, as it is once the apiserver has filled in defaults. */
export const StreamJobSpec = explained(
  "What is wanted.",
  ruled(
    object(SPEC_FIELDS.required, SPEC_FIELDS.optional),
    {
      rule: "!has(self.maxParallelism) || self.parallelism <= self.maxParallelism",
      message:
        "parallelism is above maxParallelism: lower parallelism, or raise maxParallelism before the job has state",
    },
    {
      rule: "!has(oldSelf.maxParallelism) || has(self.maxParallelism) && self.maxParallelism == oldSelf.maxParallelism",
      message:
        "maxParallelism cannot be changed once set, the job's state is cut by it: put the old value back, or delete the StreamJob and apply it again with onExistingData: NewLineage",
    },
    {
      rule: "has(self.checkpointing) || self.upgradeMode == 'Stateless'",
      message:
        "upgradeMode Savepoint and LastState keep the job's state, which needs a place: set checkpointing.dir, or upgradeMode: Stateless for a job whose state may be lost",
    },
    {
      rule: "!has(self.initialSnapshot) || self.upgradeMode != 'Stateless'",
      message:
        "initialSnapshot has no place beside upgradeMode Stateless, whose starts begin without state: remove it, or use Savepoint or LastState",
    },
    {
      rule:
        "has(self.objectStore) || !(has(self.checkpointing) && (self.checkpointing.dir.startsWith('s3://') || has(self.checkpointing.savepointDir) && self.checkpointing.savepointDir.startsWith('s3://')) || " +
        "has(self.initialSnapshot) && self.initialSnapshot.path.startsWith('s3://') || has(self.job.uri) && self.job.uri.url.startsWith('s3://'))",
      message: "an s3:// place needs objectStore: set its endpoint and secretRef.name",
    },
  ),
);
export type StreamJobSpec = Message<typeof StreamJobSpec>;
