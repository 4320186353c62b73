// Public module of @sluice/kit: what every other package may use. No I/O lives here; the seams are in ./env.

export { assert, AssertionError, unreachable } from "./assert.ts";
export { canceled, deferred, retry, SerialQueue, sleep, throwIfAborted, withTimeout } from "./async.ts";
export type { Deferred, RetryOptions } from "./async.ts";
export { Backoff } from "./backoff.ts";
export type { BackoffOptions } from "./backoff.ts";
export type { Brand } from "./brand.ts";
export { ByteReader, ByteWriter } from "./bytes.ts";
export type { ByteReaderOptions } from "./bytes.ts";
export { crc32c } from "./crc32c.ts";
export { describeFailure, Failure, failureFromJson, failureToJson, isFailure, toFailure } from "./failure.ts";
export type { Actor, FailureCode, FailureJson, Retry } from "./failure.ts";
export {
  hashBoolean,
  hashBytes,
  hashDouble,
  hashInt,
  hashLong,
  hashLongWords,
  hashString,
  hashUtf8Bytes,
  keyGroupOf,
  keyGroupRange,
  subtaskOfKeyGroup,
} from "./hash.ts";
export type { KeyGroupRange } from "./hash.ts";
export { didYouMean, nearestName } from "./nearest.ts";
export { FAULT_POINTS, faultPoint, watchFaultPoints } from "./fault-point.ts";
export type { FaultPoint } from "./fault-point.ts";
export { planted, plantBugs } from "./planted.ts";
export type { PlantedBug } from "./planted.ts";
export { formatBytes, formatDuration, parseBytes, parseDurationMs } from "./quantity.ts";
export { SeededRng } from "./rng.ts";
