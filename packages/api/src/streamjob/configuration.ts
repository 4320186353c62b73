// The configuration of a job as its spec says it: Flink's keys, out of typed fields and `spec.configuration`.
//
// Invariants:
//   CF1. A field that is absent sets no key: the runtime's defaults, and what the job's code says, stand.
//
// Not here: ports, directories and heaps of the pods (controller/src/objects), defaults (runtime/src/model/configuration).

import { FIELD_KEYS } from "./configuration-keys.ts";
import type { StreamJobSpec } from "./spec.ts";

/** Fields that do not travel in the configuration but by themselves: in PodConfig's start, and as what the pods are made of. */
const NOT_CONFIGURATION: ReadonlySet<string> = new Set([
  "initialSnapshot.path",
  "taskManager.localState.sizeLimit",
  "taskManager.resources.memory",
]);

/** Where the commit log of a job lies: `checkpointing.dir/{namespace}/{name}`. `_` begins no namespace, so nothing meets a log. */
function defaultSavepointDir(dir: string, job: { readonly namespace: string; readonly name: string }): string {
  return `${dir.replace(/\/+$/u, "")}/_savepoints/${job.namespace}/${job.name}`;
}

/** Flink-named keys of a spec, sorted. Values are texts as `-D key=value` would have them. */
export function flinkConfigurationOf(
  spec: StreamJobSpec,
  job: { readonly namespace: string; readonly name: string },
): Readonly<Record<string, string>> {
  const { checkpointing } = spec;
  const typed: [string, string][] = Object.entries(FIELD_KEYS).flatMap(([path, [key = ""]]) => {
    const value = NOT_CONFIGURATION.has(path) ? undefined : fieldAt(spec, path);
    return value === undefined ? [] : [[key, `${value as string | number | boolean}`]];
  });
  const savepointDir: [string, string][] =
    checkpointing === undefined
      ? []
      : [
          [
            "execution.checkpointing.savepoint-dir",
            checkpointing.savepointDir ?? defaultSavepointDir(checkpointing.dir, job),
          ],
        ];
  const all = [...Object.entries(spec.configuration ?? {}), ...typed, ...savepointDir];
  return Object.fromEntries([...new Map(all)].toSorted(([a], [b]) => (a < b ? -1 : 1)));
}

function fieldAt(spec: StreamJobSpec, path: string): unknown {
  let value: unknown = spec;
  for (const name of path.split(".")) value = (value as Readonly<Record<string, unknown>> | undefined)?.[name];
  return value;
}
