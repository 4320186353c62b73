// Runs scenarios: some at once, those that measure alone; one that fails leaves its diagnostics and disturbs no other.

import type { Damage } from "./ledger/index.ts";
import { createNamespace, dumpDiagnostics, removeNamespace } from "./harness/index.ts";
import type { World } from "./harness/index.ts";
import { Context } from "./scenario.ts";
import type { Scenario } from "./scenario.ts";
import type { ScenarioResult } from "./results.ts";

export interface RunnerOptions {
  readonly world: World;
  readonly atOnce: number;
  readonly seed: number;
  readonly control: Damage | undefined;
  /** Namespaces of scenarios that failed stay. */
  readonly keep: boolean;
}

/** The measuring ones first, alone; then the others, so many at once. Results in the order of the list. */
export async function runScenarios(
  scenarios: readonly Scenario[],
  options: RunnerOptions,
): Promise<readonly ScenarioResult[]> {
  const results = new Map<string, ScenarioResult>();
  const runOne = async (scenario: Scenario): Promise<void> => {
    results.set(scenario.name, await runScenario(scenario, options));
  };
  for (const scenario of scenarios.filter(({ lane }) => lane === "quiet")) await runOne(scenario);
  const waiting = scenarios.filter(({ lane }) => lane === "parallel");
  const worker = async (): Promise<void> => {
    for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) await runOne(next);
  };
  await Promise.all(Array.from({ length: options.atOnce }, worker));
  return scenarios.flatMap(({ name }) => results.get(name) ?? []);
}

async function runScenario(scenario: Scenario, options: RunnerOptions): Promise<ScenarioResult> {
  const { world, seed, control, keep } = options;
  const { name, about } = scenario;
  const namespace = `e2e-${name}`;
  const context = new Context({ world, namespace, seed, control });
  const { findings } = context;
  const startMs = performance.now();
  const took = (): number => (performance.now() - startMs) / 1_000;
  world.say(`${name}: ${about}`);
  try {
    await createNamespace(world, namespace);
    await scenario.run(context);
    await removeNamespace(world, namespace);
    world.say(`${name}: passed in ${took().toFixed(0)} s`);
    return { name, about, passed: true, seconds: took(), findings };
  } catch (error) {
    const problem = error instanceof Error ? error.message : String(error);
    const seconds = took();
    world.say(`${name}: FAILED after ${seconds.toFixed(0)} s: ${problem}`);
    const path = await dumpDiagnostics(world, name, namespace, error);
    world.say(`${name}: what was there then is in ${path}`);
    if (!keep) await removeNamespace(world, namespace);
    return { name, about, passed: false, seconds, problem, findings };
  }
}
