// Public module of network/: rings between slots, the codecs inside them, output edges, input gates, the bridge between TaskManagers.
//
// A slot uses, per output edge of a subtask:
//   new RecordWriter(options: RecordWriterOptions)
//     emit(record): void            never blocks, never drops; throws Failure TYPE_MISMATCH
//     available: boolean            false: do not schedule the task before drain() returned true
//     drain(): boolean              moves staged frames into freed slots; false: still no credit, the slot's bell will ring
//     flush(): void                 publishes partial batches
//     hasPending: boolean           rows written and not yet published (arm the buffer timeout when it becomes true)
//     broadcastBarrier(barrier): void, broadcastEndOfData(): void      both seal first; order per channel is kept
//     rowsWritten, bytesWritten, taggedChannels: number
// and per subtask with inputs:
//   new InputGate({ channels: readonly GateChannel[] })
//     channelCount: number
//     nextReady(blocked: Uint8Array): number        channel index or -1, fair; blocked[i] !== 0 is skipped
//     head(channel): ChannelHead                    of a channel that nextReady returned
//     consume(channel): void                        done with the head: the slot goes back to its producer
//     isEnded(channel): boolean                     END_OF_DATA was consumed; barriers may still come
//     rowsRead, bytesRead: number                   counted at consume
//
// A TaskManager uses, for channels that leave the process:
//   new DataServer({ net, listenAddress, taskManagerId, timers, rng })     one per process: start(): Promise<address>, stop()
//   new AttemptBridge({ server, net, clock, timers, rng, bell, taskManagerId, epoch, attempt, secret, peers, outgoing, incoming,
//     connectTimeoutMs, onBroken })                                        one per attempt: start(), isDrained, stop()
//
// Channels of one slot to itself use the slot's own bell on both ends.

export { AttemptBridge } from "./attempt-bridge.ts";
export type { AttemptBridgeOptions } from "./attempt-bridge.ts";
export { DataServer } from "./data-server.ts";
export type { DataServerOptions } from "./data-server.ts";
export { Doorbell, DOORBELL_BYTES } from "./doorbell.ts";
export { InputGate } from "./input-gate.ts";
export { allocateMailbox, MailboxReader, MailboxWriter } from "./mailbox.ts";
export { RecordWriter } from "./record-writer.ts";
export { allocateRing, DEFAULT_SLOT_BYTES, DEFAULT_SLOT_COUNT, RingConsumer, RingProducer } from "./ring.ts";
export type { Bell } from "./bell.ts";
export type {
  ChannelHead,
  GateChannel,
  HeadKind,
  IncomingChannel,
  OutgoingChannel,
  RecordWriterOptions,
  RowReader,
} from "./contracts.ts";
