// After this, code that reaches around its Env dies with a name instead of being random.

const NAMES = ["setTimeout", "setInterval", "setImmediate", "fetch"] as const;

/** Replaces the globals that core code must not touch. Once per process, before the first world runs. */
export function armTripwires(): void {
  const forbid = (name: string) => (): never => {
    throw new Error(`simulation: ${name} was called directly; ask Env`);
  };
  for (const name of NAMES) Object.assign(globalThis, { [name]: forbid(name) });
  Date.now = forbid("Date.now");
  Math.random = forbid("Math.random");
  performance.now = forbid("performance.now");
  AbortSignal.timeout = forbid("AbortSignal.timeout");
  crypto.getRandomValues = forbid("crypto.getRandomValues");
  crypto.randomUUID = forbid("crypto.randomUUID");
}
