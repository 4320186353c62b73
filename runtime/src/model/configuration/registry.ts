// All options, findable by key and by every older name.
//
// Invariants:
//   RG1. A key or alias belongs to exactly one option (asserted when the module is loaded).

import { assert } from "@sluice/kit";
import { CheckpointingOptions, StateBackendOptions, StateRecoveryOptions } from "./checkpointing-options.ts";
import { KNOWN_OPTIONS } from "./known-options.ts";
import type { ConfigOption } from "./option.ts";
import {
  HeartbeatOptions,
  PipelineOptions,
  ProcessOptions,
  RestartStrategyOptions,
  S3Options,
  TaskManagerOptions,
} from "./runtime-options.ts";

/** A chapter of the documentation. */
export interface OptionGroup {
  readonly title: string;
  readonly options: readonly ConfigOption<unknown>[];
}

/** What is implemented, by chapter. */
export const OPTION_GROUPS: readonly OptionGroup[] = [
  { title: "Checkpoints", options: [...Object.values(CheckpointingOptions), ...Object.values(StateRecoveryOptions)] },
  { title: "State", options: Object.values(StateBackendOptions).filter((option) => option.status === "implemented") },
  {
    title: "Restarts and heartbeats",
    options: [...Object.values(RestartStrategyOptions), ...Object.values(HeartbeatOptions)],
  },
  { title: "Pipeline", options: Object.values(PipelineOptions) },
  { title: "Processes", options: [...Object.values(TaskManagerOptions), ...Object.values(ProcessOptions)] },
  { title: "S3", options: Object.values(S3Options) },
];

/** Flink's options that are known and not implemented. */
export const NOT_IMPLEMENTED_OPTIONS: readonly ConfigOption<unknown>[] = [
  ...Object.values(StateBackendOptions).filter((option) => option.status === "known"),
  ...KNOWN_OPTIONS,
];

const BY_NAME: ReadonlyMap<string, ConfigOption<unknown>> = index([
  ...OPTION_GROUPS.flatMap((group) => group.options),
  ...NOT_IMPLEMENTED_OPTIONS,
]);

function index(options: readonly ConfigOption<unknown>[]): ReadonlyMap<string, ConfigOption<unknown>> {
  const byName = new Map<string, ConfigOption<unknown>>();
  for (const option of options) {
    for (const name of [option.key, ...option.aliases]) {
      assert(!byName.has(name), "RG1: a key belongs to one option");
      byName.set(name, option);
    }
  }
  return byName;
}

/** The option of a key or of one of its older names. */
export function findOption(name: string): ConfigOption<unknown> | undefined {
  return BY_NAME.get(name);
}

/** Every key and older name. */
export function optionNames(): Iterable<string> {
  return BY_NAME.keys();
}
