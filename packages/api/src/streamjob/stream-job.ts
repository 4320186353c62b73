// StreamJob: the custom resource as a whole, and the rules that see more than its spec.
//
// Not here: spec and status (spec.ts, status.ts), the CRD around them (crd.ts).

import { integer, list, literal, map, object, ruled, text } from "../schema.ts";
import type { Message } from "../schema.ts";
import { STREAM_JOB_API_VERSION, STREAM_JOB_KIND, STREAM_JOB_NAME_CHARS_MAX } from "./names.ts";
import { StreamJobSpec } from "./spec.ts";
import { StreamJobStatus } from "./status.ts";

const ObjectMeta = object(
  { name: text(), namespace: text(), uid: text(), generation: integer() },
  {
    resourceVersion: text(),
    creationTimestamp: text(),
    deletionTimestamp: text(),
    labels: map(text()),
    annotations: map(text()),
    finalizers: list(text()),
  },
);

/** Rules of the whole object: only here metadata can be seen, and the status beside the spec. */
const RULES = [
  {
    rule: `size(self.metadata.name) <= ${STREAM_JOB_NAME_CHARS_MAX} && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')`,
    message: `the name is part of the names of pods and Services: use at most ${STREAM_JOB_NAME_CHARS_MAX} lower-case letters, digits and '-', beginning with a letter, ending with a letter or digit`,
  },
  {
    rule:
      "!(has(oldSelf.status) && has(oldSelf.status.everStateful) && oldSelf.status.everStateful && has(oldSelf.spec.checkpointing)) || " +
      "self.spec.upgradeMode == 'Stateless' || has(self.spec.checkpointing) && self.spec.checkpointing.dir == oldSelf.spec.checkpointing.dir",
    message:
      "checkpointing.dir holds the job's commit log, without which its state is lost: put the old place back, or delete the StreamJob and apply it again with the new place and initialSnapshot",
  },
];

export const StreamJob = ruled(
  object(
    {
      apiVersion: literal(STREAM_JOB_API_VERSION),
      kind: literal(STREAM_JOB_KIND),
      metadata: ObjectMeta,
      spec: StreamJobSpec,
    },
    { status: StreamJobStatus },
  ),
  ...RULES,
);
export type StreamJob = Message<typeof StreamJob>;
