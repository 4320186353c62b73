// Writes docs/operator/streamjob.md from the description of StreamJob in packages/api: its fields, what is refused, its status.
//
// Run by `npm run generate`, and by `npm run check` into an empty folder (--into DIR).

import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { parseArgs } from "node:util";

import { StreamJob, StreamJobSpec, StreamJobStatus } from "@sluice/api";
import type { JsonSchema } from "@sluice/api";

const OUTPUT = "docs/operator/streamjob.md";

const HEAD = `# StreamJob

<!-- Written by tools/generate/streamjob.ts from packages/api/src/streamjob; run: npm run generate -->

A StreamJob is one streaming job: \`kubectl apply\` starts it, a change of it is an upgrade, \`kubectl delete\` ends it. The short name is \`sj\`.

\`\`\`yaml
apiVersion: sluice.dev/v1alpha1
kind: StreamJob
metadata:
  name: sum
spec:
  job:
    inline: |
      import { DiscardSink, GeneratorSource, Types } from "@sluice/runtime";
      export function main(env) {
        env
          .fromSource(new GeneratorSource({ count: 1_000_000, ratePerSecond: 1000, type: Types.LONG(), generate: (i) => i }))
          .uid("numbers")
          .sinkTo(new DiscardSink())
          .uid("sink");
      }
  parallelism: 2
  checkpointing:
    dir: s3://sluice/jobs
    interval: 10s
  objectStore:
    endpoint: http://minio:9000
    secretRef:
      name: minio
\`\`\`

The Secret holds \`AWS_ACCESS_KEY_ID\` and \`AWS_SECRET_ACCESS_KEY\`. Only the pods of the job read it, never the controller.

## What a change does

| change of | what happens |
| --- | --- |
| \`upgradeMode\`, \`allowNonRestoredState\`, \`initialSnapshot\`, \`onExistingData\`, \`stability\` | nothing now; it counts for the next upgrade |
| \`state\` | the job is suspended, its state kept; or it goes on |
| \`restartNonce\` | all processes are started again, from the newest checkpoint |
| anything else | an upgrade: a pod of the new version is tried first, then the old version is stopped as \`upgradeMode\` says, then the new one starts |

An upgrade that cannot work leaves the old version alone: the new version's pod fetches the image and the module, runs \`main\`, and reaches the object store before anything is stopped. What it finds wrong
stands in the condition \`Stalled\`, with the remedy.

## Deleting and applying again

\`kubectl delete\` cancels the job and removes its pods. Its checkpoints stay in \`checkpointing.dir\`, in \`{namespace}/{name}\` (unless \`checkpointing.cleanup\` is \`DELETE_ON_CANCELLATION\`), and so does its commit log,
which names the StreamJob that owns it. A StreamJob of the same name that is applied later is another one; \`onExistingData\` says what it does with what it finds. Nothing is deleted in any case.

| what lies there | \`Refuse\` (default) | \`Resume\` | \`NewLineage\` |
| --- | --- | --- | --- |
| nothing | starts without state | starts without state | starts without state |
| a deleted job's checkpoints | Stalled: \`ExistingData\` | goes on from the newest one | starts without state, beside them |
| a suspended job's savepoint | Stalled: \`ExistingData\` | goes on from it | starts without state, beside it |
| a job that failed, or whose pods are gone | Stalled: \`ExistingData\` | goes on from the newest checkpoint | starts without state, beside it |
| a log whose checkpoints were deleted (\`DELETE_ON_CANCELLATION\`) | Stalled: \`ExistingData\` | starts without state | starts without state |
| a job that finished: all its output is published | Stalled: \`ExistingData\` | Stalled: there is nothing to go on with | starts without state; its output is written again |
| a log that \`sluice store close\` or \`purge\` closed | Stalled: \`ExistingData\` | Stalled: closed for good | starts without state |
| a job that still runs, in another cluster over the same bucket | Stalled: \`ExistingData\` | takes it over: the other one is fenced and ends | starts without state; the other one is fenced and ends |
| something that cannot be read (no access, no answer) | Stalled until it can be: what cannot be read is never taken for nothing | the same | the same |

"Starts without state" is "starts from \`initialSnapshot\`" where that is set; it also beats what \`Resume\` would find. A new lineage writes its output under new names, so output of the old one is never overwritten.
Once a StreamJob has started, \`onExistingData\` means nothing to it any more: its own log must be there, and a missing one is a failure (\`everStateful\` in its status), never an empty start.

`;

function cell(text: string): string {
  return text.replaceAll(/[|*]/gu, "\\$&");
}

function typeOf(schema: JsonSchema): string {
  const { type, items, additionalProperties, minimum, maximum } = schema;
  if (schema["x-kubernetes-int-or-string"] === true) return "quantity";
  if (schema.enum !== undefined) return schema.enum.join(" \\| ");
  if (type === "array") return items === undefined ? "list" : `list of ${typeOf(items)}`;
  if (type === "object" && additionalProperties !== undefined && additionalProperties !== false)
    return `map of ${typeOf(additionalProperties)}`;
  if (schema.format === "date-time") return "time";
  if (schema["x-kubernetes-validations"]?.some(({ message }) => message.startsWith("not a duration")) === true)
    return "duration";
  if (minimum === undefined && maximum === undefined) return type ?? "any";
  if (maximum === undefined || maximum >= 2 ** 31 - 1) return `${type} >= ${minimum}`;
  return `${type} ${minimum} to ${maximum}`;
}

interface Field {
  readonly path: string;
  readonly schema: JsonSchema;
  readonly isRequired: boolean;
}

/** All fields below a schema, each before those inside of it. */
function fieldsOf(schema: JsonSchema, path: string): readonly Field[] {
  const { properties = {}, required = [], items } = schema;
  const inItems = items === undefined ? [] : fieldsOf(items, `${path}[]`);
  return [
    ...Object.entries(properties).flatMap(([name, field]) => {
      const at = path === "" ? name : `${path}.${name}`;
      return [{ path: at, schema: field, isRequired: required.includes(name) }, ...fieldsOf(field, at)];
    }),
    ...inItems,
  ];
}

function defaultOf({ schema, isRequired }: Field): string {
  if (isRequired) return "required";
  if (schema.default === undefined) return "";
  return typeof schema.default === "object" ? "as below" : `\`${schema.default as string | number | boolean}\``;
}

function isLeafOfTemplate({ path }: Field): boolean {
  // What podTemplate's rules read is Kubernetes' own.
  return /podTemplate\.spec\.(containers\[\]|volumes\[\])/u.test(path);
}

function specTable(): readonly string[] {
  const rows = fieldsOf(StreamJobSpec.json, "")
    .filter((field) => !isLeafOfTemplate(field))
    .map((field) => {
      const { path, schema } = field;
      return `| \`${path}\` | ${typeOf(schema)} | ${defaultOf(field)} | ${cell(schema.description ?? "")} |`;
    });
  return ["| field | type | default | meaning |", "| --- | --- | --- | --- |", ...rows];
}

function statusTable(): readonly string[] {
  const rows = fieldsOf(StreamJobStatus.json, "").map(
    ({ path, schema }) => `| \`${path}\` | ${typeOf(schema)} | ${cell(schema.description ?? "")} |`,
  );
  return ["| field | type | meaning |", "| --- | --- | --- |", ...rows];
}

/** Every message once, with the fields that it may concern. */
function refusals(): readonly string[] {
  const byMessage = new Map<string, string[]>();
  const add = (message: string, path: string): void => {
    byMessage.set(message, [...(byMessage.get(message) ?? []), path]);
  };
  for (const { message } of StreamJob.json["x-kubernetes-validations"] ?? []) add(message, "the whole object");
  for (const { message } of StreamJobSpec.json["x-kubernetes-validations"] ?? []) add(message, "spec");
  const withItems = fieldsOf(StreamJobSpec.json, "").flatMap((field) =>
    field.schema.items === undefined ? [field] : [field, { ...field, schema: field.schema.items }],
  );
  for (const { path, schema } of withItems)
    for (const { message } of schema["x-kubernetes-validations"] ?? []) add(message, path);
  const rows = [...byMessage].map(([message, paths]) => {
    const roles = paths.map((path) => path.replace(/^(jobManager|taskManager)\.podTemplate/u, "podTemplate"));
    return `| ${cell(message)} | ${[...new Set(roles)].map((path) => (/ /u.test(path) ? path : `\`${path}\``)).join(", ")} |`;
  });
  return ["| message | of |", "| --- | --- |", ...rows];
}

function page(): string {
  return [
    HEAD.trimEnd(),
    "",
    "## Spec",
    "",
    "Durations: `500ms`, `10s`, `5m`, `1h`, `PT10S`. Quantities are Kubernetes': `500m`, `2Gi`. Where a default of Flink's is named in the meaning, the job's code may set it too, and beats the spec. " +
      "Keys for `configuration` are in [configuration.md](../configuration.md).",
    "",
    ...specTable(),
    "",
    "## What is refused at once",
    "",
    "`kubectl apply` says one of these messages. What needs a look at the cluster or the bucket (a Secret, an image, a ConfigMap, a bucket, a module that throws) is found by the pod of the new version, and said in the condition `Stalled`.",
    "",
    ...refusals(),
    "",
    "## Status",
    "",
    "Conditions are kstatus': `Ready`, `Progressing`, `Degraded`, `Stalled`; `kubectl wait --for=condition=Ready sj/sum` works.",
    "",
    ...statusTable(),
    "",
  ].join("\n");
}

const { values } = parseArgs({ options: { into: { type: "string" } } });
const root = join(import.meta.dirname, "../..");
const target = join(values.into ?? root, OUTPUT);
mkdirSync(dirname(target), { recursive: true });
writeFileSync(target, page());
