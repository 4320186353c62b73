// Lines of text from a TCP connection: for trying things out. A socket cannot be read again, so what was received and not yet part of a
// completed checkpoint is lost with a failure (Flink: SocketTextStreamFunction).
//
// Invariants:
//   SO1. Lines come out in the order of arrival; the last one also when the connection ends without a delimiter behind it.
//   SO2. At most BUFFERED_BYTES_MAX and one chunk wait here: beyond that the connection is paused.
//   SO3. A restored job connects anew: there is no state.
//
// Not here: the socket (text-socket.ts).

import { StringDecoder } from "node:string_decoder";
import { Failure } from "@sluice/kit";
import {
  Types,
  type Collector,
  type OperatorContext,
  type SourceOperator,
  type SourceStatus,
  type SubtaskInfo,
} from "../model/index.ts";
import { optionInvalid, shareOf, type Source } from "../operators/index.ts";
import { openTextSocket, type OpenTextSocket, type TextSocket } from "./text-socket.ts";

export interface SocketTextOptions {
  readonly host: string;
  readonly port: number;
  /** Between records; it is not part of them. Default "\n", where a carriage return before it is dropped. */
  readonly delimiter?: string;
  /** How often in a row to connect again after the connection was refused or ended; -1: for ever. Default 0: then the input has ended. */
  readonly retriesMax?: number;
  /** Default 500. */
  readonly retryDelayMs?: number;
}

const BUFFERED_BYTES_MAX = 1_024 * 1_024;
const RECORD_CHARS_MAX = 16 * 1_024 * 1_024;
const RETRY_DELAY_MS = 500;

export class SocketTextSource implements Source<string> {
  readonly name = "socket";
  readonly type = Types.STRING();
  readonly #options: Required<SocketTextOptions>;
  readonly #open: OpenTextSocket;

  /** `open` is for tests. */
  constructor(options: SocketTextOptions, open: OpenTextSocket = openTextSocket) {
    const { host, port, delimiter = "\n", retriesMax = 0, retryDelayMs = RETRY_DELAY_MS } = options;
    if (host === "") throw optionInvalid("SocketTextSource: the host is empty", "name a host");
    if (!Number.isInteger(port) || port < 1 || port > 65_535)
      throw optionInvalid(`SocketTextSource: port is ${port}`, "give a port from 1 to 65535");
    if (delimiter === "")
      throw optionInvalid("SocketTextSource: the delimiter is empty", "give at least one character");
    if (!Number.isInteger(retriesMax) || retriesMax < -1)
      throw optionInvalid(
        `SocketTextSource: retriesMax is ${retriesMax}`,
        "give a whole number, -1 for endless retries",
      );
    if (!Number.isFinite(retryDelayMs) || retryDelayMs < 0)
      throw optionInvalid(`SocketTextSource: retryDelayMs is ${retryDelayMs}`, "give milliseconds");
    this.#options = { host, port, delimiter, retriesMax, retryDelayMs };
    this.#open = open;
  }

  /** One connection, so one split: other subtasks have nothing to do. */
  enumerateSplits(): Promise<readonly unknown[]> {
    return Promise.resolve([{ host: this.#options.host, port: this.#options.port }]);
  }

  createOperator(options: { readonly splits: readonly unknown[]; readonly subtask: SubtaskInfo }): SourceOperator {
    const isMine = shareOf(options.splits, options.subtask).length > 0;
    return new SocketOperator(this.#options, isMine ? this.#open : undefined);
  }
}

class SocketOperator implements SourceOperator {
  readonly #options: Required<SocketTextOptions>;
  readonly #openSocket: OpenTextSocket | undefined;
  #context!: OperatorContext;
  #output!: Collector<unknown>;
  #socket: TextSocket | undefined;
  #decoder = new StringDecoder("utf8");
  /** Whole lines, and where the next one begins in them. */
  #lines: string[] = [];
  #next = 0;
  #rest = "";
  #waitingChars = 0;
  #isPaused = false;
  #retryCount = 0;
  #reconnectAtMs = 0;
  #state: "connecting" | "waiting" | "ended" = "connecting";
  #failure: Failure | undefined;
  wakeAtMs = Number.POSITIVE_INFINITY;

  constructor(options: Required<SocketTextOptions>, open: OpenTextSocket | undefined) {
    this.#options = options;
    this.#openSocket = open;
  }

  open(context: OperatorContext): void {
    this.#context = context;
    this.#output = context.output;
    this.#connect();
  }

  poll(recordsMax: number): SourceStatus {
    if (this.#state === "waiting" && this.#context.clock.nowMs() >= this.#reconnectAtMs) this.#connect();
    const to = Math.min(this.#lines.length, this.#next + recordsMax);
    for (; this.#next < to; this.#next += 1) {
      const line = this.#lines[this.#next] as string;
      this.#waitingChars -= line.length;
      this.#output.collect(line);
    }
    if (this.#next < this.#lines.length) return "more";
    if (this.#failure !== undefined) throw this.#failure;
    this.#lines = [];
    this.#next = 0;
    if (this.#state === "ended") return "finished";
    if (this.#isPaused) {
      this.#isPaused = false;
      this.#socket?.resume();
    }
    this.wakeAtMs = this.#state === "waiting" ? this.#reconnectAtMs : Number.POSITIVE_INFINITY;
    return "idle";
  }

  close(): void {
    this.#socket?.close();
    this.#socket = undefined;
  }

  #connect(): void {
    if (this.#openSocket === undefined) {
      this.#state = "ended";
      return;
    }
    const { host, port } = this.#options;
    this.#state = "connecting";
    this.#decoder = new StringDecoder("utf8");
    this.#socket = this.#openSocket(
      { host, port },
      {
        onConnected: () => {
          this.#retryCount = 0;
        },
        onBytes: (bytes) => this.#take(this.#decoder.write(Buffer.from(bytes))),
        onClosed: (reason) => this.#closed(reason),
      },
    );
  }

  #take(text: string): void {
    const pieces = (this.#rest + text).split(this.#options.delimiter);
    this.#rest = pieces.pop() ?? "";
    for (const piece of pieces) this.#line(piece);
    if (this.#rest.length > RECORD_CHARS_MAX) {
      this.#socket?.close();
      this.#failure = new Failure("RECORD_MALFORMED", {
        retry: "never",
        message: `${this.#options.host}:${this.#options.port}: a record of more than ${RECORD_CHARS_MAX} characters without its delimiter`,
        remedy: "send text, with the delimiter that the source was given",
      });
    }
    if (!this.#isPaused && this.#waitingChars > BUFFERED_BYTES_MAX) {
      this.#isPaused = true; // SO2
      this.#socket?.pause();
    }
    this.#context.wake();
  }

  #line(text: string): void {
    const line = this.#options.delimiter === "\n" && text.endsWith("\r") ? text.slice(0, -1) : text;
    this.#lines.push(line);
    this.#waitingChars += line.length;
  }

  #closed(reason: string | undefined): void {
    const { host, port, retriesMax, retryDelayMs } = this.#options;
    const last = this.#rest + this.#decoder.end();
    this.#rest = "";
    if (last !== "") this.#line(last); // SO1
    this.#socket = undefined;
    const mayRetry = retriesMax === -1 || this.#retryCount < retriesMax;
    this.#context.log.warn("the connection of a socket source ended", { host, port, reason, again: mayRetry });
    if (mayRetry) {
      this.#retryCount += 1;
      this.#state = "waiting";
      this.#reconnectAtMs = this.#context.clock.nowMs() + retryDelayMs;
    } else if (reason === undefined) {
      this.#state = "ended";
    } else {
      this.#failure = new Failure("INPUT_NOT_FOUND", {
        retry: "backoff",
        message: `cannot read from ${host}:${port}: ${reason}`,
        remedy: "start the server before the job, or let the source try again (retriesMax)",
      });
    }
    this.#context.wake();
  }
}
